#!lua flags=allow-oom
-- Pauses a topic, or resumes it.
--
-- KEYS  c w
-- ARGV  "1" = pause, "0" = resume
-- Reply 1 if that changed something, else 0
-- Cost  O(1).
local c, w = unpack(KEYS)
local was = redis.call('HGET', c, 'paused') or '0'
if was == ARGV[1] then return 0 end
redis.call('HSET', c, 'paused', ARGV[1])
if ARGV[1] == '0' and redis.call('LLEN', w) == 0 then redis.call('RPUSH', w, 1) end
return 1
