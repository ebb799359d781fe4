#!lua flags=allow-oom
-- Ends events, wherever they are.
--
-- KEYS  q l p t f u d c
-- ARGV  (id)*
-- Reply for each event: "w" = it waited, "r" = it ran, "d" = it was dead, "-" = there is none
-- Cost  O(n log N); at most 200 events.
local q, l, p, t, f, u, d, c = unpack(KEYS)
local reply, cancelled = {}, 0
for i, id in ipairs(ARGV) do
  reply[i] = redis.call('ZREM', q, id) == 1 and 'w' or redis.call('ZREM', l, id) == 1 and 'r'
    or redis.call('ZREM', d, id) == 1 and 'd' or '-'
  if reply[i] ~= '-' then
    cancelled = cancelled + 1
    redis.call('HDEL', p, id)
    redis.call('HDEL', t, id)
    redis.call('HDEL', f, id, 'x' .. id)
    local key = redis.call('HGET', u, 'i' .. id)
    if key then redis.call('HDEL', u, 'k' .. key, 'i' .. id) end
  end
end
if cancelled > 0 then redis.call('HINCRBY', c, 'cancelled', cancelled) end
return reply
