-- Takes down which breakers opened and closed, and tells of all that are open.
-- KEYS: a hash, by scope: until when its breaker stays open and when that was told, in milliseconds of the server's clock.
-- ARGS: for each news the scope and the milliseconds for which it stays open from now on, at most LONGEST; 0: it closed.
-- Reply: 1; microseconds of the present; unreadable values that were replaced; then for each hint its scope and its two times.

local FIELDS = 1000 -- of more nobody wants to hear, and the rest is not taken down
local LONGEST = 600000
local key, present = KEYS[1], math.floor(now / 1000)
local hints, number, changed = {}, 0, {}

local size = asked(key, redis.pcall('HLEN', key), function() return redis.call('HLEN', key) end) or 0
if size > FIELDS then
  replace(key)
elseif size > 0 then
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local scope, value = all[i], all[i + 1]
    local ends, since
    if #scope == 26 and #value <= 40 and not string.find(scope, '[^a-z2-7]') then
      ends, since = string.match(value, '^(%d+) (%d+)$')
      ends, since = tonumber(ends), tonumber(since)
    end
    if not since or ends <= since or ends - since > LONGEST then
      replaced = replaced + 1
      changed[scope] = true
    elseif ends <= present or ends - present > LONGEST then -- it is over, or the clock has jumped back
      changed[scope] = true
    else
      hints[scope] = value
      number = number + 1
    end
  end
end

for i = 1, #ARGS, 2 do
  local scope, hold = ARGS[i], tonumber(ARGS[i + 1])
  local known = hints[scope]
  if hold == 0 then
    hints[scope], changed[scope] = nil, true
    number = number - (known and 1 or 0)
  elseif known or number < FIELDS then
    hints[scope], changed[scope] = text(present + hold) .. ' ' .. text(present), true
    number = number + (known and 0 or 1)
  end
end

local gone, news = {}, {}
for scope in pairs(changed) do
  if hints[scope] then
    news[#news + 1] = scope
    news[#news + 1] = hints[scope]
  else
    gone[#gone + 1] = scope
  end
end
if #gone > 0 then
  redis.call('HDEL', key, unpack(gone))
end
if #news > 0 then
  redis.call('HSET', key, unpack(news))
  redis.call('EXPIRE', key, LONGEST / 1000)
end

local reply = {told({1, now, replaced})}
for scope, value in pairs(hints) do
  reply[#reply + 1] = scope
  reply[#reply + 1] = value
end
return table.concat(reply, ' ')
