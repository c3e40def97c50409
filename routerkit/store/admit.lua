-- Charges an admission to all of its limits or to none.
-- KEYS: the grant's marker; then for each charge its limit and the set of what is held of it.
-- ARGS: milliseconds of the lease; the grant's identity; then for each charge kind, cap, cost, period, and what the client
-- remembers: the number of the period, the birth, what was taken.
-- Reply: 1 or 0; microseconds of the present; unreadable keys that were replaced; then for each charge four numbers: of a rate the
-- microseconds to wait, 0, 0, 0; of others the period, what was taken, what was held, the birth: before this admission. The birth
-- of what was not kept, as nothing was admitted, is 0.

local lease, grant = tonumber(ARGS[1]), ARGS[2]
local states, saved, tokens = {}, {}, {}
local reply = {1, now, 0}

-- Let go of what is held by leases that are over. Of very many, the rest goes with the next admission.
local function purge(count, leases)
  local find = function(call) return call('ZRANGEBYSCORE', leases, '-inf', text(now), 'LIMIT', '0', text(PURGED)) end
  local over = asked(leases, find(redis.pcall), function() return find(redis.call) end)
  if not over or redis.call('ZCARD', leases) == 0 then
    count.dirty = count.dirty or count.r > 0
    count.r = 0
  elseif #over > 0 then
    for _, member in ipairs(over) do
      count.r = count.r - (whole(string.match(member, '^%d+:(%d+):')) or 0)
    end
    count.r = math.max(0, count.r)
    count.dirty = true
    redis.call('ZREM', leases, unpack(over))
  end
end

-- A client that remembers more of this period than a hash that was born since knows of a loss: a flush, an eviction.
local function remember(count, number, birth, taken)
  if number == count.p and birth ~= count.b and taken > count.f then
    count.n = count.n + taken - count.f
    count.f = taken
    count.dirty = true
  end
end

local function current(key, leases, kind, period, number, birth, taken)
  local present = period_number(kind, period)
  local count = load_count(key)
  if not count or (count.p ~= present and count.p ~= present + 1) then
    count = born(present)
  end
  if kind == 'slots' or kind == 'money' then
    if count.fresh then
      asked(leases, redis.pcall('ZCARD', leases), function() return redis.call('ZCARD', leases) end)
    else
      purge(count, leases)
    end
  end
  remember(count, number, birth, taken)
  if count.dirty then
    if count.fresh then
      redis.call('DEL', leases)
      count.fresh = nil
    end
    save_count(key, count, keeps(kind, period))
    count.dirty = nil
  end
  return count
end

for i = 1, (#KEYS - 1) / 2 do
  local key, leases, a = KEYS[2 * i], KEYS[2 * i + 1], 7 * i - 4
  local kind, cap, cost, period = ARGS[a], tonumber(ARGS[a + 1]), tonumber(ARGS[a + 2]), ARGS[a + 3]
  local state = states[key]
  if kind == 'rate' then
    state = state or {volume = leaked(key, cap)}
    local over = state.volume + cost * MINUTE - cap * MINUTE
    local wait = 0
    if cost > 0 and over > 0 then
      reply[1] = 0
      wait = math.ceil(over / math.max(1, cap))
    else
      state.volume = state.volume + cost * MINUTE
    end
    tokens[i] = text(now + math.ceil(state.volume / math.max(1, cap)))
    reply[4 * i], reply[4 * i + 1], reply[4 * i + 2], reply[4 * i + 3] = wait, 0, 0, 0
  else
    state = state or current(key, leases, kind, period, tonumber(ARGS[a + 4]), tonumber(ARGS[a + 5]), tonumber(ARGS[a + 6]))
    reply[4 * i], reply[4 * i + 1], reply[4 * i + 2], reply[4 * i + 3] = state.p, state.n, state.r, state.b
    if cost > 0 and state.n + state.r + cost > cap then
      reply[1] = 0
    elseif kind == 'day' then
      state.n = state.n + cost
    else
      state.r = state.r + cost
    end
    tokens[i] = text(state.p)
  end
  states[key] = state
end

if reply[1] == 1 then
  for i = 1, (#KEYS - 1) / 2 do
    local key, leases, a = KEYS[2 * i], KEYS[2 * i + 1], 7 * i - 4
    local kind, state = ARGS[a], states[key]
    if kind == 'rate' then
      save_level(key, state.volume)
    else
      if kind ~= 'day' then
        if state.fresh then
          redis.call('DEL', leases)
          state.fresh = nil
        end
        redis.call('ZADD', leases, text(now + lease * 1000), i .. ':' .. ARGS[a + 2] .. ':' .. grant)
        redis.call('EXPIRE', leases, keeps(kind, ARGS[a + 3]))
      end
      save_count(key, state, keeps(kind, ARGS[a + 3]))
    end
  end
  redis.call('SET', KEYS[1], table.concat(tokens, ','), 'PX', text(lease + 3600000))
else
  for i = 1, (#KEYS - 1) / 2 do
    if states[KEYS[2 * i]].fresh then
      reply[4 * i + 3] = 0
    end
  end
end
reply[3] = replaced
return told(reply)
