-- Returns the account of a shard.
-- KEYS: `c`, `b`, `o`, `x`.
-- Time: O(log N) for N keys.
-- Reply: moved, watched, overdue, pending, started, delivered, removed, redelivered, outages.
local counters = redis.call('HMGET', c, 'started', 'delivered', 'removed', 'redelivered', 'outages')
local reply = {
  moved,
  redis.call('ZCARD', KEYS[2]),
  redis.call('ZCOUNT', KEYS[2], '-inf', now),
  redis.call('ZCARD', KEYS[4]),
}
for i = 1, 5 do
  reply[#reply + 1] = tonumber(counters[i] or 0)
end
return reply
