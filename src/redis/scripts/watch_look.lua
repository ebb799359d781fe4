-- A keeper's call: takes note of the reports that are delivered, prolongs the leases of those that are not yet, gives
-- back those that will not be, and hands out the next ones: first those whose lease has lapsed, then keys that are due.
-- A report is `fence:attempt:deadline:timeout:key`. One that is handed out again has a higher fence, so that an old
-- holder's acknowledgement of it matches nothing.
-- KEYS: `c`, `b`, `o`. `x`, ZSET report -> end of its lease us.
-- ARGV[4]: lease us. ARGV[5]: number of reports wanted, at most 200. ARGV[6], ARGV[7]: how many are delivered, and how
--   many are held. ARGV[8..]: the former, the latter, and those that are given back; at most 200 together.
-- Time: O(n log N) for n reports, and N keys or reports.
-- Reply: moved, outage, now, the time until the next one is due or -1, number delivered, reports.
local b, o, x = KEYS[2], KEYS[3], KEYS[4]
local lease, want = tonumber(ARGV[4]), tonumber(ARGV[5])
local held = 8 + ARGV[6]
local returned = held + ARGV[7]
local delivered = 0
if held > 8 then
  delivered = redis.call('ZREM', x, unpack(ARGV, 8, held - 1))
  redis.call('HINCRBY', c, 'delivered', delivered)
end
if #ARGV >= held then
  local leases = {}
  for i = held, #ARGV do
    leases[#leases + 1] = i < returned and now + lease or now
    leases[#leases + 1] = ARGV[i]
  end
  redis.call('ZADD', x, 'XX', unpack(leases))
end

local lapsed, due = {}, {}
if want > 0 then
  lapsed = redis.call('ZRANGE', x, '-inf', now, 'BYSCORE', 'LIMIT', 0, want)
end
if want > #lapsed then
  due = redis.call('ZRANGE', b, '-inf', now, 'BYSCORE', 'LIMIT', 0, want - #lapsed, 'WITHSCORES')
end
local reports, leases, keys = {}, {}, {}
if #lapsed + #due > 0 then
  local fence = math.max(tonumber(redis.call('HGET', c, 'fence') or 0) + 1, clock)
  local head = string.format('%.0f:', fence)
  for _, report in ipairs(lapsed) do
    local attempt, rest = string.match(report, '^%d+:(%d+)(:.*)$')
    if attempt then
      reports[#reports + 1] = head .. string.format('%.0f', attempt + 1) .. rest
    end
  end
  for i = 1, #due, 2 do
    keys[#keys + 1] = due[i]
  end
  local has_others = #keys > 0 and redis.call('EXISTS', o) == 1
  local others = has_others and redis.call('HMGET', o, unpack(keys)) or {}
  for i, key in ipairs(keys) do
    local own = tonumber(others[i] or timeout)
    reports[#reports + 1] = head .. string.format('1:%.0f:%.0f:', due[2 * i], own) .. key
  end
  for _, report in ipairs(reports) do
    leases[#leases + 1] = now + lease
    leases[#leases + 1] = report
  end
  -- If the user loses a permission meanwhile, a report is stored twice and not lost.
  redis.call('HSET', c, 'fence', fence)
  if #leases > 0 then
    redis.call('ZADD', x, unpack(leases))
  end
  if #lapsed > 0 then
    redis.call('ZREM', x, unpack(lapsed))
    redis.call('HINCRBY', c, 'redelivered', #lapsed)
  end
  if #keys > 0 then
    redis.call('ZREMRANGEBYRANK', b, 0, #keys - 1)
    if has_others then
      redis.call('HDEL', o, unpack(keys))
    end
  end
end

local wait = -1
for i = 2, 4, 2 do
  local first = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')[2]
  if first then
    local rest = math.max(first - now, 0)
    wait = wait < 0 and rest or math.min(wait, rest)
  end
end
return { moved, outage, now, wait, delivered, reports }
