#!lua flags=allow-oom
-- The beginning of each script of a shared watch: the settings of a shard, and the time of its deadlines. Every call is
-- a sign that the shard can be reached. If there was none for longer than `outage`, nobody could beat: the time of the
-- deadlines did not pass then, nor while the others connect again. The same holds when the clock of the server is set
-- back, or forward by more than `outage`.
-- KEYS: `c`, `b`, `o`, `x` of the shard, in each script; the first is used here.
-- `c`, HASH: shards, timeout, outage: the settings. skew: how far the time of the deadlines is behind the clock,
--   us. last: the time of the last call. fence, and the counters started, delivered, removed, redelivered, outages.
-- ARGV[1..3]: the settings of the caller: number of shards, timeout us, outage us. The shard keeps those of the first.
-- Time: O(1).
-- Memory: a full server refuses no call, since keys whose beats are refused would be reported.
local RECONNECT = 3000000
local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2] -- CLOCK
local c = KEYS[1]
local stored = redis.call('HMGET', c, 'shards', 'timeout', 'outage', 'skew', 'last')
if stored[1] and stored[1] ~= ARGV[1] then
  return redis.error_reply('SHARDS ' .. stored[1])
end
local timeout = tonumber(stored[2] or ARGV[2])
local outage = tonumber(stored[3] or ARGV[3])
local skew = tonumber(stored[4] or 0)
local last = tonumber(stored[5] or clock)
local moved = 0
if clock < last then
  skew = skew + clock - last
elseif clock - last > outage then
  moved = clock - last + RECONNECT
  skew = skew + moved
  redis.call('HINCRBY', c, 'outages', 1)
end
local now = clock - skew
redis.call('HSET', c, 'last', clock, 'skew', skew)
if not stored[1] then
  redis.call('HSET', c, 'shards', ARGV[1], 'timeout', ARGV[2], 'outage', ARGV[3])
end
