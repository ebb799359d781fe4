#!lua
-- Accepts events of one topic: groups, each as a whole or not at all.
--
-- KEYS  q l p t f u c w
-- ARGV  session, seq, the most unfinished events, the number of groups, then for each group its number of events, and
--       for each event: due, policy, key, payload
--       due: "" = now, "+N" = N us from now, "N" = N us of the clock of Redis
--       policy: what happens if an unfinished event has the key: "e" error, "k" keep, "r" replace; key: "" = none. An
--       event with a key is alone in its group.
-- Reply for each group one text: "A<id>" = accepted, the first of consecutive ids; "K<id>" = the other event stays, or
--       was replaced; "D<id>" = refused, a duplicate of <id>; "F" = refused, full. "OLD" = a later call came first.
-- Cost  O(n log N) for n events, N that wait; at most 200 events a call.
local q, l, p, t, f, u, c, w = unpack(KEYS)
local time = redis.call('TIME'); local now = time[1] * 1000000 + time[2]
local session, seq, max, groups = 'e' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local state = redis.call('HMGET', c, session, 'seq', 'emitted')
if state[1] then
  local known, reply = string.match(state[1], '^(%d+) %d+ (.*)$')
  if tonumber(known) == seq then
    local words = {}
    for word in string.gmatch(reply, '%S+') do words[#words + 1] = word end
    return words
  elseif tonumber(known) > seq then
    return {'OLD'}
  end
end

local last, emitted = tonumber(state[2] or 0), tonumber(state[3] or 0)
local unfinished = redis.call('ZCARD', q) + redis.call('ZCOUNT', l, '-inf', '(+inf')
local first = tonumber(redis.call('ZRANGE', q, 0, 0, 'WITHSCORES')[2])
local earliest
local payloads, dues, reply = {}, {}, {}

local function due_of(text)
  if text == '' then return now end
  if string.byte(text) == 43 then return now + tonumber(string.sub(text, 2)) end
  return tonumber(text)
end

local at = 5
for group = 1, groups do
  local count = tonumber(ARGV[at])
  local key = ARGV[at + 3]
  local other = key ~= '' and redis.call('HGET', u, 'k' .. key)
  if other then
    local policy, due = ARGV[at + 2], due_of(ARGV[at + 1])
    if policy == 'k' then
      reply[group] = 'K' .. other
    elseif policy == 'r' and redis.call('ZSCORE', q, other) then
      redis.call('HSET', p, other, ARGV[at + 4])
      redis.call('HDEL', f, other, 'x' .. other)
      redis.call('ZADD', q, due, other)
      if not earliest or due < earliest then earliest = due end
      reply[group] = 'K' .. other
    else
      reply[group] = 'D' .. other
    end
  elseif unfinished + count > max then
    reply[group] = 'F'
  else
    reply[group] = 'A' .. string.format('%011x', last + 1)
    for event = at + 1, at + 4 * count, 4 do
      last = last + 1
      local id, due = string.format('%011x', last), due_of(ARGV[event])
      if not earliest or due < earliest then earliest = due end
      if key == '' then
        payloads[#payloads + 1] = id
        payloads[#payloads + 1] = ARGV[event + 3]
        dues[#dues + 1] = due
        dues[#dues + 1] = id
      else
        -- At once: a later group of this call may have the same key.
        redis.call('HSET', u, 'k' .. key, id, 'i' .. id, key)
        redis.call('HSET', p, id, ARGV[event + 3])
        redis.call('ZADD', q, due, id)
      end
    end
    unfinished = unfinished + count
    emitted = emitted + count
  end
  at = at + 1 + 4 * count
end

if not state[2] then
  -- A value of 65 bytes, and a member beside others of 129, keep these keys from the compact encodings of Redis, which
  -- are searched from end to end. All else ignores the field and the score.
  local long = string.rep('~', 65)
  redis.call('HSET', p, '~', long)
  redis.call('HSET', t, '~', long)
  redis.call('ZADD', l, '+inf', long)
end
if #dues > 0 then
  redis.call('HSET', p, unpack(payloads))
  redis.call('ZADD', q, unpack(dues))
end
redis.call('HSET', c, 'seq', last, 'emitted', emitted,
  session, string.format('%.0f %.0f ', seq, now) .. table.concat(reply, ' '))
-- A process that sleeps until the first event is due must learn of an earlier one.
if earliest and (not first or earliest < first) and redis.call('LLEN', w) == 0 then redis.call('RPUSH', w, 1) end
return reply
