-- Returns how a key stands.
-- KEYS: `c`, `b`, `o`, `x`.
-- ARGV[4]: the key.
-- Time: O(1).
-- Reply: moved, whether it is watched, its timeout us, the time until its deadline us, which may be negative.
local deadline = redis.call('ZSCORE', KEYS[2], ARGV[4])
if not deadline then
  return { moved, 0, 0, 0 }
end
local own = redis.call('HGET', KEYS[3], ARGV[4])
return { moved, 1, tonumber(own or timeout), deadline - now }
