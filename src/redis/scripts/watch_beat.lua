-- Records a sign of life of each key, all with one timeout. A key that is not watched is watched from now on.
-- KEYS: `c`. `b`, ZSET key -> deadline us. `o`, HASH key -> timeout us, of keys whose timeout is not that of the shard. `x`.
-- ARGV[4]: the timeout us, or 0 for that of the shard. ARGV[5..]: at most 200 keys.
-- Time: O(n log N) for n keys of N.
-- Reply: moved, number of keys that were not watched.
local b, o = KEYS[2], KEYS[3]
local own = tonumber(ARGV[4])
if own == 0 then
  own = timeout
end
local beats, others = {}, {}
for i = 5, #ARGV do
  beats[#beats + 1] = now + own
  beats[#beats + 1] = ARGV[i]
end
local started = redis.call('ZADD', b, unpack(beats))
if started > 0 then
  redis.call('HINCRBY', c, 'started', started)
end
if own ~= timeout then
  for i = 5, #ARGV do
    others[#others + 1] = ARGV[i]
    others[#others + 1] = own
  end
  redis.call('HSET', o, unpack(others))
elseif redis.call('EXISTS', o) == 1 then
  redis.call('HDEL', o, unpack(ARGV, 5))
end
return { moved, started }
