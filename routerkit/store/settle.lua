-- Settles an admission with what it came to, once: the marker goes with the first time.
-- KEYS: as of admit.lua.
-- ARGS: the grant's identity; then for each charge kind, cap, cost as it was charged, period, cost in the end.
-- Reply: 1, or 0 where nothing is known of the grant; microseconds of the present; unreadable keys that were replaced; then for each
-- charge the period, what is taken now, what is held, the birth; zeros where there is nothing to tell.

local marker = asked(KEYS[1], redis.pcall('GET', KEYS[1]), function() return redis.call('GET', KEYS[1]) end)
local tokens, reply = {}, {0, now, 0}
for i = 4, 2 * #KEYS + 1 do
  reply[i] = 0
end
if marker then
  redis.call('DEL', KEYS[1])
  for token in string.gmatch(string.sub(marker, 1, 10000), '[^,]+') do
    tokens[#tokens + 1] = whole(token)
  end
  if #tokens == (#KEYS - 1) / 2 then
    reply[1] = 1
  else
    replaced = replaced + 1
  end
end

for i = 1, reply[1] * (#KEYS - 1) / 2 do
  local key, leases, a = KEYS[2 * i], KEYS[2 * i + 1], 5 * i - 3
  local kind, cap, cost, period = ARGS[a], tonumber(ARGS[a + 1]), tonumber(ARGS[a + 2]), ARGS[a + 3]
  local actual, token = tonumber(ARGS[a + 4]), tokens[i]
  if kind == 'rate' then
    local more = (actual - cost) * MINUTE
    if more < 0 then
      more = -math.min(-more, math.max(0, token - now) * cap)
    end
    if more ~= 0 then
      save_level(key, math.max(0, math.min(leaked(key, cap) + more, cap * MINUTE)))
    end
  else
    local count = load_count(key) or born(token)
    if count.p == token then
      if kind == 'day' then
        count.n = math.max(0, count.n + actual - cost)
      else
        local member = i .. ':' .. ARGS[a + 2] .. ':' .. ARGS[1]
        local remove = function(call) return call('ZREM', leases, member) end
        if asked(leases, remove(redis.pcall), function() return remove(redis.call) end) == 1 then
          count.r = math.max(0, count.r - cost)
        end
        if kind == 'money' then
          count.n = count.n + actual
        end
      end
      save_count(key, count, keeps(kind, period))
      reply[4 * i], reply[4 * i + 1], reply[4 * i + 2], reply[4 * i + 3] = count.p, count.n, count.r, count.b
    end
  end
end
reply[3] = replaced
return told(reply)
