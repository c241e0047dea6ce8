-- Decides all claims of one request at once, on Redis' own clock, in a window that slides.
--
-- KEYS[1]     who is alive: replica -> when it was last heard of, in microseconds
-- KEYS[2..]   one window per claim: "<start in microseconds> <units before> <units in it>"
-- ARGV[1]     id of this replica, when it is time to say that it is alive; else empty
-- ARGV[2..]   four for each claim: units, window in microseconds, cost, group
--
-- A group is taken as a whole or not at all; the first group that is refused ends the script.
-- Group 0 is counted without being asked, and its costs may be negative.
-- Returns {number of the refused claim or 0, microseconds to wait, replicas alive or 0}.
--
-- A window begins with its first claim. While it lasts, the one before it weighs what is left of it:
-- rounded down to whole units, so that the rate itself is reached. Within any time t at most
-- units + units * t / window + 1 are taken.

local ALIVE = 60 * 1000000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function write(key, window)
  local value = string.format('%.0f %.0f %.0f', window.start, window.before, window.used)
  redis.call('SET', key, value, 'PX', math.ceil(2 * window.length / 1000))
end

local function read(key, length)
  local start, before, used = string.match(redis.call('GET', key) or '', '^(%d+) (%d+) (%d+)$')
  local window = { start = now, length = length, before = 0, used = 0 }
  start = tonumber(start)
  if not start or now >= start + 2 * length then
    return window
  end
  window.before, window.used = tonumber(before), tonumber(used)
  if now >= start + length then
    window.start, window.before, window.used = start + length, window.used, 0
  elseif now >= start then
    window.start = start
  else
    -- The clock was set back, or a node with an earlier one took over: the window begins again, now
    -- and not with each refusal.
    write(key, window)
  end
  return window
end

-- Returns 0 when `cost` fits, else the microseconds after which it will, if nothing else is taken.
local function wait(units, cost, window)
  local start, length, weighs = window.start, window.length, window.before
  local room = units - window.used - cost
  if math.floor(weighs * (start + length - now) / length) <= room then
    return 0
  end
  if room < 0 then
    -- Not in this window: in the next one, when what is used now weighs little enough.
    start, weighs, room = start + length, window.used, math.max(0, units - cost)
  end
  if weighs <= room then
    return start - now
  end
  return math.floor(start + length - length * (room + 1) / weighs - now) + 1
end

local replicas = 0
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ALIVE)
  redis.call('PEXPIRE', KEYS[1], ALIVE / 1000)
  replicas = redis.call('ZCARD', KEYS[1])
end

local claim, claims = 1, #KEYS - 1
while claim <= claims do
  local group = ARGV[4 * claim + 1]
  local refused, longest, taken = 0, 0, {}
  while claim <= claims and ARGV[4 * claim + 1] == group do
    local key, units = KEYS[claim + 1], tonumber(ARGV[4 * claim - 2])
    local length, cost = tonumber(ARGV[4 * claim - 1]), tonumber(ARGV[4 * claim])
    local window = taken[key] or read(key, length)
    if group == '0' then
      window.used = math.max(0, math.min(units, window.used + cost))
    else
      local microseconds = wait(units, cost, window)
      if microseconds > longest then
        refused, longest = claim, microseconds
      end
      window.used = window.used + cost
    end
    taken[key] = window
    claim = claim + 1
  end
  if refused > 0 then
    return { refused, longest, replicas }
  end
  for key, window in pairs(taken) do
    write(key, window)
  end
end
return { 0, 0, replicas }
