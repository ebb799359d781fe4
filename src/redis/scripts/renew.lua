#!lua flags=allow-oom
-- Renews the leases of events that run.
--
-- KEYS  l p t c
-- ARGV  the lease in us, (id, fence)*
-- Reply how long nothing lapses after an outage in us (0 if there was none), then for each event that is no longer the
--       caller's: id, 1 = it still exists, and another worker may run it, or 0 = it was cancelled or has ended
-- Cost  O(n log N); at most 200 events.
local l, p, t, c = unpack(KEYS)
local time = redis.call('TIME'); local now = time[1] * 1000000 + time[2]
local lease = tonumber(ARGV[1])
local state = redis.call('HMGET', c, 'last', 'grace')
local last = tonumber(state[1])
local now_text, ends = string.format('%.0f', now), string.format('%.0f', now + lease)
local ids, renewed, reply = {}, {}, {0}
for i = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local fences = #ids > 0 and redis.call('HMGET', t, unpack(ids)) or {}
for i, id in ipairs(ids) do
  if fences[i] == ARGV[2 * i + 1] then
    renewed[#renewed + 1] = ends
    renewed[#renewed + 1] = id
  else
    reply[#reply + 1] = id
    reply[#reply + 1] = redis.call('HEXISTS', p, id)
  end
end
-- As in `work`: the first call after an outage must notice it, whichever it is.
if last and now - last > lease / 2 then
  redis.call('HSET', c, 'last', now_text, 'grace', ends)
  reply[1] = lease
else
  redis.call('HSET', c, 'last', now_text)
end
if #renewed > 0 then redis.call('ZADD', l, 'XX', unpack(renewed)) end
return reply
