#!lua flags=no-writes,allow-oom
-- Reads events that wait, or that are dead.
--
-- KEYS  q or d, p, f
-- ARGV  how many to skip, how many to read, the most bytes of payloads
-- Reply for each event: id, when it is due or died, payload or nil, record or nil; fewer than asked for, but at least
--       one, once the bytes are used up
-- Cost  O(log N + skip + n); at most 200 events.
local set, p, f = unpack(KEYS)
local skip, n, bytes = tonumber(ARGV[1]), math.min(tonumber(ARGV[2]), 200), tonumber(ARGV[3])
-- A range up to -1 would be all.
if n < 1 then return {} end
local found = redis.call('ZRANGE', set, skip, skip + n - 1, 'WITHSCORES')
local reply = {}
for i = 1, #found, 2 do
  if bytes <= 0 then break end
  local id, at = found[i], #reply
  local payload = redis.call('HGET', p, id)
  reply[at + 1], reply[at + 2] = id, tonumber(found[i + 1])
  reply[at + 3], reply[at + 4] = payload, redis.call('HGET', f, id)
  if payload then bytes = bytes - #payload end
end
return reply
