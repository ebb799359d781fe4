#!lua flags=no-writes,allow-oom
-- Reads the account of a topic.
--
-- KEYS  q l d c
-- Reply now, events that wait, that are due of them, that run, that are dead; then emitted, done, cancelled, purged,
--       lost, died, replayed, retried, put_off, lapsed, stale, paused, each nil if it never was
-- Cost  O(log N).
local q, l, d, c = unpack(KEYS)
local time = redis.call('TIME'); local now = time[1] * 1000000 + time[2]
local reply = {now, redis.call('ZCARD', q), redis.call('ZCOUNT', q, '-inf', now),
  redis.call('ZCOUNT', l, '-inf', '(+inf'), redis.call('ZCARD', d)}
local counts = redis.call('HMGET', c, 'emitted', 'done', 'cancelled', 'purged', 'lost', 'died', 'replayed', 'retried',
  'put_off', 'lapsed', 'stale', 'paused')
for i, count in ipairs(counts) do reply[5 + i] = count end
return reply
