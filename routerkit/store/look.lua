-- Tells what is used of limits, and charges nothing.
-- KEYS: for each limit the limit and the set of what is held of it. ARGS: for each kind, cap, period.
-- Reply: 1; microseconds of the present; unreadable keys that were replaced; then for each limit three numbers: of a rate the level of
-- its bucket in unit-microseconds, 0, 0; of others the period, what was taken, what is held.

local LOOKS = 20 -- at what is over, PURGED at a time: of more, the rest counts as held

-- What is held, without what belongs to leases that are over.
local function holding(leases, held)
  local size = asked(leases, redis.pcall('ZCARD', leases), function() return redis.call('ZCARD', leases) end) or 0
  if size == 0 then
    return 0
  end
  for look = 0, LOOKS - 1 do
    local over = redis.call('ZRANGEBYSCORE', leases, '-inf', text(now), 'LIMIT', text(look * PURGED), text(PURGED))
    for _, member in ipairs(over) do
      held = held - (whole(string.match(member, '^%d+:(%d+):')) or 0)
    end
    if #over < PURGED then
      break
    end
  end
  return math.max(0, held)
end

local reply = {1, now, 0}
for i = 1, #KEYS / 2 do
  local key, leases, a = KEYS[2 * i - 1], KEYS[2 * i], 3 * i - 2
  local kind, cap, period = ARGS[a], tonumber(ARGS[a + 1]), ARGS[a + 2]
  local number, taken, held = 0, 0, 0
  if kind == 'rate' then
    number = leaked(key, cap)
  else
    number = period_number(kind, period)
    local count = load_count(key)
    if count and (count.p == number or count.p == number + 1) then
      number, taken = count.p, count.n
      held = kind == 'day' and 0 or holding(leases, count.r)
    end
  end
  reply[3 * i + 1], reply[3 * i + 2], reply[3 * i + 3] = number, taken, held
end
reply[3] = replaced
return told(reply)
