-- Returns the settings of a shard, and replaces them if asked to.
-- KEYS: `c`, `b`, `o`, `x`.
-- ARGV[4]: 1 to replace timeout and outage by those of the caller.
-- Time: O(1).
-- Reply: moved, timeout, outage.
if ARGV[4] == '1' then
  timeout, outage = tonumber(ARGV[2]), tonumber(ARGV[3])
  redis.call('HSET', c, 'timeout', timeout, 'outage', outage)
end
return { moved, timeout, outage }
