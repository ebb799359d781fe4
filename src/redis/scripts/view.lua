#!lua flags=no-writes,allow-oom
-- Reads events that wait, or that are dead.
--
-- KEYS  q or d, p, f
-- ARGV  how many to skip, how many to read
-- Reply for each event: id, when it is due or died, payload or nil, record or nil
-- Cost  O(log N + skip + n); at most 200 events.
local set, p, f = unpack(KEYS)
local skip, n = tonumber(ARGV[1]), math.min(tonumber(ARGV[2]), 200)
-- A range up to -1 would be all.
if n < 1 then return {} end
local found = redis.call('ZRANGE', set, skip, skip + n - 1, 'WITHSCORES')
local reply = {}
for i = 1, #found, 2 do
  local id, at = found[i], #reply
  reply[at + 1], reply[at + 2] = id, tonumber(found[i + 1])
  reply[at + 3], reply[at + 4] = redis.call('HGET', p, id), redis.call('HGET', f, id)
end
return reply
