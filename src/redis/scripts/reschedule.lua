#!lua flags=allow-oom
-- Changes when an event that waits is due.
--
-- KEYS  q w
-- ARGV  id, due: "" = now, "+N" = N us from now, "N" = N us of the clock of Redis
-- Reply 1, or 0 if the event does not wait
-- Cost  O(log N).
local q, w = unpack(KEYS)
local time = redis.call('TIME'); local now = time[1] * 1000000 + time[2]
local id, due = ARGV[1], ARGV[2]
if due == '' then
  due = now
elseif string.byte(due) == 43 then
  due = now + tonumber(string.sub(due, 2))
else
  due = tonumber(due)
end
if not redis.call('ZSCORE', q, id) then return 0 end
local first = tonumber(redis.call('ZRANGE', q, 0, 0, 'WITHSCORES')[2])
redis.call('ZADD', q, due, id)
if due < first and redis.call('LLEN', w) == 0 then redis.call('RPUSH', w, 1) end
return 1
