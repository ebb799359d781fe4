#!lua flags=allow-oom
-- Takes the outcomes of attempts, takes back what lapsed, and hands out events that are due.
--
-- KEYS  q l p t f u d c w
-- ARGV  session, seq, how many events are wanted, the lease in us, the most bytes of payloads, the most events that run
--       everywhere (0 = no limit), the least time between two starts in us (0 = none), the most dead events, a random
--       number from 0 to 1, then three lists, each after its length:
--       done (id, fence)*   again (id, fence, due, record, "r" counts | "o" does not)*   dead (id, fence, record)*
--       due: "+N" = N us from now, "N" = N us of the clock of Redis. record: "" = unchanged.
-- Reply now, the time until the next call is of use in us (-1 = unknown), how long nothing lapses after an outage in us,
--       how many events lapsed, lost, the fence of the events, {the stale ids}, then for each event: id, due, payload,
--       record or nil, lapses or nil. {"OLD"} = a later call came first.
-- Cost  O((outcomes + events) log N); at most 200 outcomes and 200 events, and 64 that lapse.
local q, l, p, t, f, u, d, c, w = unpack(KEYS)
local time = redis.call('TIME'); local now = time[1] * 1000000 + time[2]
local session, seq, want, lease = 'w' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local bytes, everywhere, interval = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local max_dead, random = tonumber(ARGV[8]), tonumber(ARGV[9])
local state = redis.call('HMGET', c, session, 'last', 'grace', 'fence', 'paused', 'tat')
local lapsed, lost = 0, 0

-- Adds an event to a reply.
local has_records = redis.call('HLEN', f) > 0
local function add(reply, id, due, payload)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4], reply[n + 5] = id, due, payload, false, false
  if has_records then
    local record = redis.call('HMGET', f, id, 'x' .. id)
    reply[n + 4], reply[n + 5] = record[1], record[2]
  end
end

if state[1] then
  local known, fence, ends = string.match(state[1], '^(%d+) %d+ (%d+) (%d+)$')
  if tonumber(known) > seq then return {'OLD'} end
  if tonumber(known) == seq then
    -- The reply was lost: what this call claimed has its fence, and still has the end of its lease.
    local reply = {now, 0, 0, 0, 0, tonumber(fence), {}}
    local ids = redis.call('ZRANGEBYSCORE', l, ends, ends, 'LIMIT', 0, 200)
    for _, id in ipairs(ids) do
      if redis.call('HGET', t, id) == fence then
        local payload = redis.call('HGET', p, id)
        if payload then add(reply, id, now, payload) end
      end
    end
    return reply
  end
end

-- Nobody can have renewed a lease while nobody reached the topic: nothing lapses until they had time to.
local running = redis.call('ZCOUNT', l, '-inf', '(+inf')
local grace = tonumber(state[3] or 0)
local is_new_grace = state[2] and now - tonumber(state[2]) > lease / 2 and running > 0
if is_new_grace then grace = now + lease end

-- Outcomes. `ended` are the events that no longer run.
local at = 10
local ended, ended_dues, stale = {}, {}, {}
local counts = {}
local function count(name, n)
  if n > 0 then counts[#counts + 1] = {name, n} end
end
local function fences_of(first, step, n)
  local ids = {}
  for i = 1, n do ids[i] = ARGV[first + (i - 1) * step] end
  return n > 0 and redis.call('HMGET', t, unpack(ids)) or {}
end
local function free_key(id)
  local key = redis.call('HGET', u, 'i' .. id)
  if key then redis.call('HDEL', u, 'k' .. key, 'i' .. id) end
end
local has_keys = redis.call('HLEN', u) > 0

local n = tonumber(ARGV[at])
local fences, done = fences_of(at + 1, 2, n), {}
for i = 1, n do
  local id, fence = ARGV[at + 2 * i - 1], ARGV[at + 2 * i]
  if fences[i] == fence then
    done[#done + 1] = id
    ended[#ended + 1] = id
  else
    stale[#stale + 1] = id
  end
end
at = at + 1 + 2 * n
if #done > 0 then
  redis.call('HDEL', p, unpack(done))
  if has_records then
    redis.call('HDEL', f, unpack(done))
    for i, id in ipairs(done) do fences[i] = 'x' .. id end
    redis.call('HDEL', f, unpack(fences, 1, #done))
  end
  if has_keys then for _, id in ipairs(done) do free_key(id) end end
  count('done', #done)
end

n = tonumber(ARGV[at])
fences = fences_of(at + 1, 5, n)
local retried, put_off = 0, 0
for i = 1, n do
  local first = at + 1 + (i - 1) * 5
  local id, due, record = ARGV[first], ARGV[first + 2], ARGV[first + 3]
  if fences[i] == ARGV[first + 1] then
    ended[#ended + 1] = id
    due = string.byte(due) == 43 and now + tonumber(string.sub(due, 2)) or tonumber(due)
    redis.call('ZADD', q, due, id)
    if record ~= '' then redis.call('HSET', f, id, record) end
    if ARGV[first + 4] == 'r' then retried = retried + 1 else put_off = put_off + 1 end
  else
    stale[#stale + 1] = id
  end
end
at = at + 1 + 5 * n
count('retried', retried)
count('put_off', put_off)

n = tonumber(ARGV[at])
fences = fences_of(at + 1, 3, n)
local died, purged = 0, 0
for i = 1, n do
  local first = at + 1 + (i - 1) * 3
  local id = ARGV[first]
  if fences[i] == ARGV[first + 1] then
    ended[#ended + 1] = id
    died = died + 1
    redis.call('ZADD', d, now, id)
    redis.call('HSET', f, id, ARGV[first + 2])
    redis.call('HDEL', f, 'x' .. id)
    if has_keys then free_key(id) end
  else
    stale[#stale + 1] = id
  end
end
if died > 0 then
  local surplus = math.min(redis.call('ZCARD', d) - max_dead, 200)
  if surplus > 0 then
    for _, id in ipairs(redis.call('ZRANGE', d, 0, surplus - 1)) do
      redis.call('HDEL', p, id)
      redis.call('HDEL', f, id)
      purged = purged + 1
    end
    redis.call('ZREMRANGEBYRANK', d, 0, surplus - 1)
  end
end
count('died', died)
count('purged', purged)
count('stale', #stale)
if #ended > 0 then
  redis.call('ZREM', l, unpack(ended))
  redis.call('HDEL', t, unpack(ended))
end

-- What lapsed waits again. From its second lapse on, an event is set apart from those that its process took along.
if now >= grace then
  local ids = redis.call('ZRANGEBYSCORE', l, '-inf', now, 'LIMIT', 0, 64)
  lapsed = #ids
  for i, id in ipairs(ids) do
    local lapses = redis.call('HINCRBY', f, 'x' .. id, 1)
    local spread = 0
    if lapses > 1 then spread = (random * 7919 * i) % 1 * 1000000 * 2 ^ math.min(lapses, 6) end
    redis.call('ZADD', q, math.floor(now + spread), id)
  end
  if lapsed > 0 then
    has_records = true
    redis.call('ZREM', l, unpack(ids))
    redis.call('HDEL', t, unpack(ids))
    count('lapsed', lapsed)
  end
end
running = running - #ended - lapsed

-- Claims.
local tat = tonumber(state[6] or 0)
local is_paused = state[5] == '1'
want = math.min(want, 200)
if everywhere > 0 then want = math.min(want, everywhere - running) end
local is_early = interval > 0 and tat > now
if is_paused or is_early then want = 0 elseif interval > 0 then want = math.min(want, 1) end
local fence = math.max(tonumber(state[4] or 0) + 1, now)
local reply = {now, -1, math.max(grace - now, 0), 0, 0, fence, stale}
if not is_new_grace then reply[3] = 0 end
local claimed, looked = 0, 0
if want > 0 then
  local due = redis.call('ZRANGEBYSCORE', q, '-inf', now, 'WITHSCORES', 'LIMIT', 0, want)
  local leases, tokens, gone = {}, {}, {}
  local ends = now + lease
  -- In steps, because all payloads together may be far larger than what is asked for.
  while looked < #due / 2 and bytes > 0 do
    local ids = {}
    for i = looked + 1, math.min(looked + 32, #due / 2) do ids[#ids + 1] = due[2 * i - 1] end
    local payloads = redis.call('HMGET', p, unpack(ids))
    for i, id in ipairs(ids) do
      if bytes <= 0 then break end
      looked = looked + 1
      local payload = payloads[i]
      if payload then
        bytes = bytes - #payload
        claimed = claimed + 1
        leases[2 * claimed - 1], leases[2 * claimed] = ends, id
        tokens[2 * claimed - 1], tokens[2 * claimed] = id, fence
        add(reply, id, tonumber(due[2 * looked]), payload)
      else
        gone[#gone + 1] = id
      end
    end
  end
  if looked > 0 then redis.call('ZREMRANGEBYRANK', q, 0, looked - 1) end
  if claimed > 0 then
    redis.call('ZADD', l, unpack(leases))
    redis.call('HSET', t, unpack(tokens))
    tat = now + interval
    running = running + claimed
  end
  lost = #gone
  for _, id in ipairs(gone) do
    redis.call('HDEL', f, id, 'x' .. id)
    free_key(id)
  end
  count('lost', lost)
end

for _, pair in ipairs(counts) do redis.call('HINCRBY', c, pair[1], pair[2]) end
redis.call('HSET', c, 'last', now, 'grace', grace, 'fence', fence, 'tat', tat,
  session, string.format('%.0f %.0f %.0f %.0f', seq, now, fence, now + lease))
reply[4], reply[5] = lapsed, lost

-- When a call is of use again: the next event that is due, if it may start, or the next lease that ends.
local first = tonumber(redis.call('ZRANGE', q, 0, 0, 'WITHSCORES')[2])
local next_at
if first and not is_paused and not (everywhere > 0 and running >= everywhere) then
  next_at = first
  if interval > 0 then next_at = math.max(first, tat) end
  -- Another process may have what this one lacks.
  if next_at <= now and redis.call('LLEN', w) == 0 then redis.call('RPUSH', w, 1) end
end
local lease_end = tonumber(redis.call('ZRANGE', l, 0, 0, 'WITHSCORES')[2])
if lease_end and lease_end < math.huge then
  lease_end = math.max(lease_end, grace)
  if not next_at or lease_end < next_at then next_at = lease_end end
end
if next_at then reply[2] = math.max(next_at - now, 0) end
return reply
