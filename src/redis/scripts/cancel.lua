#!lua flags=allow-oom
-- Ends events, wherever they are.
--
-- KEYS  q l p t f u d c
-- ARGV  (id)*
-- Reply for each event: "w" = it waited, "r" = it ran, "d" = it was dead, "-" = there is none
-- Cost  O(n log N); at most 200 events.
local q, l, p, t, f, u, d, c = unpack(KEYS)
local cancelled = tonumber(redis.call('HGET', c, 'cancelled')) or 0
local has_keys = redis.call('HLEN', u) > 0
local reply, ids, failures, holders = {}, {}, {}, {}
for i, id in ipairs(ARGV) do
  reply[i] = redis.call('ZREM', q, id) == 1 and 'w' or redis.call('ZREM', l, id) == 1 and 'r'
    or redis.call('ZREM', d, id) == 1 and 'd' or '-'
  if reply[i] ~= '-' then
    local n = #ids
    ids[n + 1], holders[n + 1] = id, 'i' .. id
    failures[2 * n + 1], failures[2 * n + 2] = id, 'x' .. id
  end
end
if #ids == 0 then return reply end
redis.call('HDEL', p, unpack(ids))
redis.call('HDEL', t, unpack(ids))
redis.call('HDEL', f, unpack(failures))
if has_keys then
  for i, key in ipairs(redis.call('HMGET', u, unpack(holders))) do
    if key then redis.call('HDEL', u, 'k' .. key, holders[i]) end
  end
end
redis.call('HSET', c, 'cancelled', string.format('%.0f', cancelled + #ids))
return reply
