#!lua flags=allow-oom
-- Takes the outcomes of attempts, takes back what lapsed, and hands out events that are due.
--
-- KEYS  q l p t f u d c w
-- ARGV  session, seq, how many events are wanted, the lease in us, the most bytes of payloads, the most events that run
--       everywhere (0 = no limit), the least time between two starts in us (0 = none), the most dead events, a random
--       number from 0 to 1, then three lists, each after its length:
--       done (id, fence)*   again (id, fence, due, record, "r" counts | "o" does not)*   dead (id, fence, record)*
--       due: "+N" = N us from now, "N" = N us of the clock of Redis. record: "" = unchanged. An attempt has one outcome.
-- Reply now, the time until the next call is of use in us (-1 = unknown), how long nothing lapses after an outage in us,
--       how many events lapsed, lost, the fence of the events, {the stale ids}, then for each event: id, due, payload,
--       record or nil, lapses or nil. {"OLD"} = a later call came first.
-- Cost  O((outcomes + events) log N); at most 200 outcomes and 200 events, and 64 that lapse.
local q, l, p, t, f, u, d, c, w = unpack(KEYS)
local time = redis.call('TIME'); local now = time[1] * 1000000 + time[2]
local session, seq, want, lease = 'w' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local bytes, everywhere, interval = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local max_dead, random = tonumber(ARGV[8]), tonumber(ARGV[9])
-- A number as an argument is formatted at each use.
local now_text, ends = string.format('%.0f', now), string.format('%.0f', now + lease)
local state = redis.call('HMGET', c, session, 'last', 'grace', 'fence', 'paused', 'tat')
local has_records = redis.call('HLEN', f) > 0
local wakes = redis.call('LLEN', w) == 0

-- Adds the records of `ids` to the end of a reply.
local function add_records(reply, ids)
  if not has_records or #ids == 0 then return end
  local n, fields = #ids, {}
  for i, id in ipairs(ids) do fields[i], fields[n + i] = id, 'x' .. id end
  local found = redis.call('HMGET', f, unpack(fields))
  local at = #reply - 5 * n
  for i = 1, n do reply[at + 5 * i - 1], reply[at + 5 * i] = found[i], found[n + i] end
end

if state[1] then
  local known, fence, ending = string.match(state[1], '^(%d+) %d+ (%d+) (%d+)$')
  known = tonumber(known)
  if known and known > seq then return {'OLD'} end
  if known == seq then
    -- The reply was lost: what this call claimed has its fence, and still has the end of its lease.
    local reply, ids, n = {now, 0, 0, 0, 0, tonumber(fence), {}}, {}, 7
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', l, ending, ending, 'LIMIT', 0, 200)) do
      local payload = redis.call('HGET', t, id) == fence and redis.call('HGET', p, id)
      if payload then
        ids[#ids + 1] = id
        reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = id, now, payload, false, false
        n = n + 5
      end
    end
    add_records(reply, ids)
    return reply
  end
end

-- Nobody can have renewed a lease while nobody reached the topic: nothing lapses until they had time to.
local running = redis.call('ZCOUNT', l, '-inf', '(+inf')
local last, grace = tonumber(state[2]), tonumber(state[3]) or 0
local is_new_grace = last and now - last > lease / 2 and running > 0
if is_new_grace then grace = now + lease end
local fence, tat, is_paused = tonumber(state[4]) or 0, tonumber(state[6]) or 0, state[5] == '1'
-- The last fence was a time. If the clock went back since, no start waits longer than an interval, no lapse than a lease.
if fence > now + 1000000 then tat, grace = math.min(tat, now + interval), math.min(grace, now + lease) end
fence = math.max(fence + 1, now)

local counts, names = {}, {}
local function count(name, n)
  if n > 0 then names[#names + 1], counts[#counts + 1] = name, n end
end
-- Frees the unique keys of events.
local has_keys = redis.call('HLEN', u) > 0
local function free_keys(ids)
  if not has_keys or #ids == 0 then return end
  local fields, freed = {}, {}
  for i, id in ipairs(ids) do fields[i] = 'i' .. id end
  for i, key in ipairs(redis.call('HMGET', u, unpack(fields))) do
    if key then freed[#freed + 1], freed[#freed + 2] = 'k' .. key, fields[i] end
  end
  if #freed > 0 then redis.call('HDEL', u, unpack(freed)) end
end

-- Outcomes: all are read before the first one is applied. `ended` are the events that no longer run.
local ids, at = {}, 10
local function read(step)
  local from, to = at + 1, at + step * tonumber(ARGV[at])
  for i = from, to, step do ids[#ids + 1] = ARGV[i] end
  at = to + 1
  return from, to
end
local done_from, done_to = read(2)
local again_from, again_to = read(5)
local dead_from, dead_to = read(3)
local fences = #ids > 0 and redis.call('HMGET', t, unpack(ids)) or {}
local ended, done, dead, stale = {}, {}, {}, {}
local dues, records, deaths = {}, {}, {}
local retried, put_off, i = 0, 0, 0
for from = done_from, done_to, 2 do
  i = i + 1
  if fences[i] == ARGV[from + 1] then done[#done + 1] = ids[i] else stale[#stale + 1] = ids[i] end
end
for from = again_from, again_to, 5 do
  i = i + 1
  if fences[i] == ARGV[from + 1] then
    local id, due, record = ids[i], ARGV[from + 2], ARGV[from + 3]
    ended[#ended + 1] = id
    due = string.byte(due) == 43 and now + tonumber(string.sub(due, 2)) or tonumber(due)
    dues[#dues + 1], dues[#dues + 2] = due + 0, id
    if record ~= '' then records[#records + 1], records[#records + 2] = id, record end
    if ARGV[from + 4] == 'r' then retried = retried + 1 else put_off = put_off + 1 end
  else
    stale[#stale + 1] = ids[i]
  end
end
for from = dead_from, dead_to, 3 do
  i = i + 1
  if fences[i] == ARGV[from + 1] then
    local id = ids[i]
    dead[#dead + 1], ended[#ended + 1] = id, id
    deaths[#deaths + 1], deaths[#deaths + 2] = now_text, id
    records[#records + 1], records[#records + 2] = id, ARGV[from + 2]
  else
    stale[#stale + 1] = ids[i]
  end
end
local surplus = #dead > 0 and math.min(redis.call('ZCARD', d) + #dead - max_dead, 200) or 0

local function forget(ids)
  local fields, n = {}, #ids
  for i, id in ipairs(ids) do fields[i], fields[n + i] = id, 'x' .. id end
  redis.call('HDEL', f, unpack(fields))
end
if #done > 0 then
  redis.call('HDEL', p, unpack(done))
  if has_records then forget(done) end
  free_keys(done)
  for _, id in ipairs(done) do ended[#ended + 1] = id end
  count('done', #done)
end
if #dues > 0 then redis.call('ZADD', q, unpack(dues)) end
if #dead > 0 then
  forget(dead)
  free_keys(dead)
  redis.call('ZADD', d, unpack(deaths))
  count('died', #dead)
end
if #records > 0 then redis.call('HSET', f, unpack(records)) end
if surplus > 0 then
  local oldest = redis.call('ZRANGE', d, 0, surplus - 1)
  redis.call('HDEL', p, unpack(oldest))
  redis.call('HDEL', f, unpack(oldest))
  redis.call('ZREMRANGEBYRANK', d, 0, surplus - 1)
  count('purged', surplus)
end
has_records = has_records or #records > 0
count('retried', retried)
count('put_off', put_off)
count('stale', #stale)
if #ended > 0 then
  redis.call('ZREM', l, unpack(ended))
  redis.call('HDEL', t, unpack(ended))
end

-- What lapsed waits again. From its second lapse on, an event is set apart from those that its process took along.
local lapsed = 0
if now >= grace then
  ids = redis.call('ZRANGEBYSCORE', l, '-inf', now_text, 'LIMIT', 0, 64)
  lapsed = #ids
  if lapsed > 0 then
    local fields, dues = {}, {}
    for i, id in ipairs(ids) do fields[i] = 'x' .. id end
    local before, after = redis.call('HMGET', f, unpack(fields)), {}
    for i, id in ipairs(ids) do
      local lapses, spread = (tonumber(before[i]) or 0) + 1, 0
      if lapses > 1 then spread = (random * 7919 * i) % 1 * 1000000 * 2 ^ math.min(lapses, 6) end
      after[2 * i - 1], after[2 * i] = fields[i], lapses
      dues[2 * i - 1], dues[2 * i] = math.floor(now + spread), id
    end
    redis.call('HSET', f, unpack(after))
    redis.call('ZADD', q, unpack(dues))
    redis.call('ZREMRANGEBYRANK', l, 0, lapsed - 1)
    redis.call('HDEL', t, unpack(ids))
    has_records = true
    count('lapsed', lapsed)
  end
end
running = running - #ended - lapsed

-- Claims.
want = math.min(want, 200)
if everywhere > 0 then want = math.min(want, everywhere - running) end
if interval > 0 then want = math.min(want, 1) end
if is_paused or interval > 0 and tat > now then want = 0 end
local reply = {now, -1, is_new_grace and lease or 0, lapsed, 0, fence, stale}
if want > 0 then
  local due = redis.call('ZRANGEBYSCORE', q, '-inf', now_text, 'WITHSCORES', 'LIMIT', 0, want)
  local fence_text = string.format('%.0f', fence)
  local leases, tokens, claimed, gone = {}, {}, {}, {}
  local looked, found, n, length = 0, #due / 2, 0, 7
  -- In steps, because all payloads together may be far larger than what is asked for.
  while looked < found and bytes > 0 do
    local ids = {}
    for i = looked + 1, math.min(looked + 32, found) do ids[#ids + 1] = due[2 * i - 1] end
    local payloads = redis.call('HMGET', p, unpack(ids))
    for i, id in ipairs(ids) do
      if bytes <= 0 then break end
      looked = looked + 1
      local payload = payloads[i]
      if payload then
        bytes = bytes - #payload
        n = n + 1
        claimed[n] = id
        leases[2 * n - 1], leases[2 * n] = ends, id
        tokens[2 * n - 1], tokens[2 * n] = id, fence_text
        reply[length + 1], reply[length + 2], reply[length + 3] = id, due[2 * looked], payload
        reply[length + 4], reply[length + 5] = false, false
        length = length + 5
      else
        gone[#gone + 1] = id
      end
    end
  end
  if looked > 0 then redis.call('ZREMRANGEBYRANK', q, 0, looked - 1) end
  if n > 0 then
    redis.call('ZADD', l, unpack(leases))
    redis.call('HSET', t, unpack(tokens))
    add_records(reply, claimed)
    tat = now + interval
    running = running + n
  end
  if #gone > 0 then
    forget(gone)
    free_keys(gone)
    reply[5] = #gone
    count('lost', #gone)
  end
end

local fields = {'last', now_text, 'grace', string.format('%.0f', grace), 'fence', string.format('%.0f', fence),
  'tat', string.format('%.0f', tat), session, string.format('%.0f %s %.0f %s', seq, now_text, fence, ends)}
if #names > 0 then
  local before = redis.call('HMGET', c, unpack(names))
  for i, name in ipairs(names) do
    fields[#fields + 1] = name
    fields[#fields + 1] = string.format('%.0f', (tonumber(before[i]) or 0) + counts[i])
  end
end
redis.call('HSET', c, unpack(fields))

-- When a call is of use again: the next event that is due, if it may start, or the next lease that ends.
local first = tonumber(redis.call('ZRANGE', q, 0, 0, 'WITHSCORES')[2])
local next_at
if first and not is_paused and not (everywhere > 0 and running >= everywhere) then
  next_at = interval > 0 and math.max(first, tat) or first
  -- Another process may have what this one lacks.
  if wakes and next_at <= now then redis.call('RPUSH', w, 1) end
end
local lease_end = tonumber(redis.call('ZRANGE', l, 0, 0, 'WITHSCORES')[2])
if lease_end and lease_end < math.huge then
  next_at = math.min(next_at or math.huge, math.max(lease_end, grace))
end
if next_at then reply[2] = math.max(next_at - now, 0) end
return reply
