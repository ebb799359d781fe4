#!lua
-- Lets dead events wait again, due at once.
--
-- KEYS  q l f d c w
-- ARGV  the most unfinished events, (id, record)*
-- Reply how many were dead, and wait now
-- Cost  O(n log N); at most 200 events.
local q, l, f, d, c, w = unpack(KEYS)
local time = redis.call('TIME'); local now = time[1] * 1000000 + time[2]
local before = tonumber(redis.call('HGET', c, 'replayed')) or 0
local room = tonumber(ARGV[1]) - redis.call('ZCARD', q) - redis.call('ZCOUNT', l, '-inf', '(+inf')
local wakes = redis.call('LLEN', w) == 0
local replayed = 0
for i = 2, #ARGV, 2 do
  if replayed >= room then break end
  if redis.call('ZREM', d, ARGV[i]) == 1 then
    redis.call('ZADD', q, now, ARGV[i])
    redis.call('HSET', f, ARGV[i], ARGV[i + 1])
    replayed = replayed + 1
  end
end
if replayed > 0 then
  redis.call('HSET', c, 'replayed', string.format('%.0f', before + replayed))
  if wakes then redis.call('RPUSH', w, 1) end
end
return replayed
