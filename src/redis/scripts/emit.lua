#!lua
-- Accepts events of one topic: groups, each as a whole or not at all.
--
-- KEYS  q l p t f u c w
-- ARGV  session, seq, the most unfinished events, the number of groups, then for each group its number of events, its
--       kind, and its events:
--       "n" all are due now: (payload)*
--       "d" each has its due: (due, payload)*
--       "e", "k", "r" one event with a unique key: key, due, payload. If an unfinished event has the key, this one is
--       refused, or the other one kept, or the other one replaced if it waits.
--       due: "" = now, "+N" = N us from now, "N" = N us of the clock of Redis
-- Reply for each group one text: "A<id>" = accepted, the first of consecutive ids; "K<id>" = the other event stays, or
--       was replaced; "D<id>" = refused, a duplicate of <id>; "F" = refused, full. "OLD" = a later call came first.
-- Cost  O(n log N) for n events, N that wait; at most 200 events a call.
local q, l, p, t, f, u, c, w = unpack(KEYS)
local time = redis.call('TIME'); local now = time[1] * 1000000 + time[2]
local session, seq, max, groups = 'e' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local state = redis.call('HMGET', c, session, 'seq', 'emitted')
if state[1] then
  local known, reply = string.match(state[1], '^(%d+) %d+ (.*)$')
  known = tonumber(known)
  if known == seq then
    local words = {}
    for word in string.gmatch(reply, '%S+') do words[#words + 1] = word end
    return words
  elseif known and known > seq then
    return {'OLD'}
  end
end

local last, emitted = tonumber(state[2]), tonumber(state[3]) or 0
local is_new = not last
-- Counters that were lost do not make an id a second time: fewer than one event a ms was accepted since 1970.
if is_new then last = redis.call('HLEN', p) > 0 and math.floor(now / 1000) or 0 end
local unfinished = redis.call('ZCARD', q) + redis.call('ZCOUNT', l, '-inf', '(+inf')
-- A process that sleeps until the first event is due must learn of an earlier one.
local wakes = redis.call('LLEN', w) == 0
local first = wakes and tonumber(redis.call('ZRANGE', q, 0, 0, 'WITHSCORES')[2])
local earliest = math.huge

-- Everything is read before anything is written.
local payloads, dues, taken, freed, forgotten, reply = {}, {}, {}, {}, {}, {}
local holders = {}
-- A number as an argument is formatted at each use.
local now_text = string.format('%.0f', now)
local n = 0

local function due_of(text)
  if text == '' then return now end
  if string.byte(text) == 43 then return now + tonumber(string.sub(text, 2)) end
  return tonumber(text)
end
local format = string.format
local function add(id, due, payload)
  payloads[n + 1], payloads[n + 2] = id, payload
  dues[n + 1], dues[n + 2] = due, id
  n = n + 2
end

local at = 5
for group = 1, groups do
  local count, kind = tonumber(ARGV[at]), ARGV[at + 1]
  if kind == 'n' or kind == 'd' then
    local step = kind == 'n' and 1 or 2
    if unfinished + count > max then
      reply[group] = 'F'
    else
      reply[group] = 'A' .. string.format('%011x', last + 1)
      for event = at + 2, at + 1 + step * count, step do
        last = last + 1
        local id, due, payload = format('%011x', last), now_text, ARGV[event]
        if step == 2 then
          due, payload = due_of(payload), ARGV[event + 1]
          if due < earliest then earliest = due end
        end
        payloads[n + 1], payloads[n + 2], dues[n + 1], dues[n + 2] = id, payload, due, id
        n = n + 2
      end
      if step == 1 and now < earliest then earliest = now end
      unfinished = unfinished + count
      emitted = emitted + count
    end
    at = at + 2 + step * count
  else
    local key, due, payload = ARGV[at + 2], due_of(ARGV[at + 3]), ARGV[at + 4]
    local other, waits = holders[key], true
    if not other then
      other = redis.call('HGET', u, 'k' .. key)
      waits = other and redis.call('ZSCORE', q, other)
      if other and not waits and not redis.call('ZSCORE', l, other) then
        -- An event that was removed by hand does not hold its key for ever.
        freed[#freed + 1] = 'i' .. other
        other = nil
      end
    end
    if other then
      if kind == 'k' then
        reply[group] = 'K' .. other
      elseif kind == 'r' and waits then
        reply[group] = 'K' .. other
        add(other, due, payload)
        forgotten[#forgotten + 1], forgotten[#forgotten + 2] = other, 'x' .. other
        earliest = math.min(earliest, due)
      else
        reply[group] = 'D' .. other
      end
    elseif unfinished + 1 > max then
      reply[group] = 'F'
    else
      last = last + 1
      local id = string.format('%011x', last)
      reply[group] = 'A' .. id
      add(id, due, payload)
      holders[key] = id
      local i = #taken
      taken[i + 1], taken[i + 2], taken[i + 3], taken[i + 4] = 'k' .. key, id, 'i' .. id, key
      earliest = math.min(earliest, due)
      unfinished = unfinished + 1
      emitted = emitted + 1
    end
    at = at + 5
  end
end

if is_new then
  -- A value of 65 bytes, and a member beside others of 129, keep these keys from the compact encodings of Redis, which
  -- are searched from end to end. All else ignores the field and the score.
  local long = string.rep('~', 65)
  redis.call('HSET', p, '~', long)
  redis.call('HSET', t, '~', long)
  redis.call('ZADD', l, '+inf', long)
end
if n > 0 then
  redis.call('HSET', p, unpack(payloads))
  redis.call('ZADD', q, unpack(dues))
end
if #freed > 0 then redis.call('HDEL', u, unpack(freed)) end
if #taken > 0 then redis.call('HSET', u, unpack(taken)) end
if #forgotten > 0 then redis.call('HDEL', f, unpack(forgotten)) end
redis.call('HSET', c, 'seq', last, 'emitted', string.format('%.0f', emitted),
  session, string.format('%.0f %s ', seq, now_text) .. table.concat(reply, ' '))
if wakes and earliest < (first or math.huge) then redis.call('RPUSH', w, 1) end
return reply
