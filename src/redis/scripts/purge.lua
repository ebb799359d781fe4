#!lua flags=allow-oom
-- Removes the oldest dead events.
--
-- KEYS  p f d c
-- ARGV  the most events to remove
-- Reply how many were removed
-- Cost  O(n log N); at most 200 events.
local p, f, d, c = unpack(KEYS)
local purged = tonumber(redis.call('HGET', c, 'purged')) or 0
local n = math.min(tonumber(ARGV[1]), 200)
-- A range up to -1 would be all.
if n < 1 then return 0 end
local ids = redis.call('ZRANGE', d, 0, n - 1)
if #ids == 0 then return 0 end
redis.call('HDEL', p, unpack(ids))
redis.call('HDEL', f, unpack(ids))
redis.call('ZREMRANGEBYRANK', d, 0, #ids - 1)
redis.call('HSET', c, 'purged', string.format('%.0f', purged + #ids))
return #ids
