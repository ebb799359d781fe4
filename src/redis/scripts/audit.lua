#!lua flags=allow-oom
-- Repairs what an eviction or a hand broke: an event with a payload that is in no list waits again. Drops the records of
-- sessions that made no call for a day.
--
-- KEYS  q l p t d c
-- ARGV  cursor of the payloads, cursor of the records; each "0" at first
-- Reply the next cursors, how many events were found
-- Cost  O(100 log N).
local q, l, p, t, d, c = unpack(KEYS)
local time = redis.call('TIME'); local now = time[1] * 1000000 + time[2]
local page = redis.call('HSCAN', p, ARGV[1], 'COUNT', 100)
local records = redis.call('HSCAN', c, ARGV[2], 'COUNT', 100)
local found = 0
for i = 1, #page[2], 2 do
  local id = page[2][i]
  if id ~= '~' and not redis.call('ZSCORE', q, id) and not redis.call('ZSCORE', l, id)
    and not redis.call('ZSCORE', d, id) then
    redis.call('ZADD', q, now, id)
    -- An attempt that runs on is no longer the current one, or its outcome would count beside that of the next.
    redis.call('HDEL', t, id)
    found = found + 1
  end
end
for i = 1, #records[2], 2 do
  -- The records alone have a second number, which is when they were written.
  local at = string.match(records[2][i + 1], '^%d+ (%d+) ')
  if at and now - tonumber(at) > 86400000000 then redis.call('HDEL', c, records[2][i]) end
end
return {page[1], records[1], found}
