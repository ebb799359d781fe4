-- Ends the watch over keys. Reports that are already handed out are not affected.
-- KEYS: `c`, `b`, `o`, `x`.
-- ARGV[4..]: at most 200 keys.
-- Time: O(n log N) for n keys of N.
-- Reply: moved, number of keys that were watched.
local removed = redis.call('ZREM', KEYS[2], unpack(ARGV, 4))
if removed > 0 then
  redis.call('HINCRBY', c, 'removed', removed)
  if redis.call('EXISTS', KEYS[3]) == 1 then
    redis.call('HDEL', KEYS[3], unpack(ARGV, 4))
  end
end
return { moved, removed }
