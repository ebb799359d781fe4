#!lua flags=allow-oom
-- Removes the oldest dead events.
--
-- KEYS  p f d c
-- ARGV  the most events to remove
-- Reply how many were removed
-- Cost  O(n log N); at most 200 events.
local p, f, d, c = unpack(KEYS)
local ids = redis.call('ZRANGE', d, 0, math.min(tonumber(ARGV[1]), 200) - 1)
if #ids == 0 then return 0 end
redis.call('HDEL', p, unpack(ids))
redis.call('HDEL', f, unpack(ids))
redis.call('ZREM', d, unpack(ids))
redis.call('HINCRBY', c, 'purged', #ids)
return #ids
