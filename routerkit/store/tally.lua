-- Adds, once, what a process tells of its calls to what is kept of today.
-- KEYS: who tells: the number of its last batch; then those parts of a day that are added to, each a hash from names to numbers.
-- ARGS: the day, since 1970; the number of the batch; then for each entry the place of its part among the keys, its name, and its
-- numbers with commas between them.
-- Reply: 1, or 0 where today is another day; microseconds of the present; unreadable values that were replaced.

local MODELS = 2000 -- names of one part; beyond that models are counted under "other"
local NAMES = 4000 -- beyond that what is new is only counted, under "o/"
local DIGITS = 24
local KEPT = 35 * DAY
local MOST = string.rep('9', DIGITS)

-- A whole number as two that floating point holds exactly: billions, and the rest.
local function halves(digits)
  return tonumber(string.sub(digits, 1, -10)) or 0, tonumber(string.sub(digits, -9))
end

local function plus(one, other)
  if other == '0' then -- most numbers are: of 34 of a tenant's calls all but a few
    return one
  elseif #one <= 15 and #other <= 15 then
    return text(tonumber(one) + tonumber(other))
  end
  local high, low = halves(one)
  local more, rest = halves(other)
  high, low = high + more, low + rest
  if low >= 1e9 then
    high, low = high + 1, low - 1e9
  end
  if high >= 1e15 then
    return MOST
  end
  return high > 0 and string.format('%.0f%09.0f', high, low) or text(low)
end

local function larger(one, other)
  local high, low = halves(one)
  local more, rest = halves(other)
  return (high > more or (high == more and low > rest)) and one or other
end

local function split(numbers)
  local found, count = {}, 0
  for digits in string.gmatch(numbers, '%d+') do
    count = count + 1
    found[count] = digits
  end
  return found, count
end

-- What is there, and what comes to it. Whatever is no such thing counts as nothing.
local function together(held, numbers, join)
  local theirs, count = split(numbers)
  local ours, same = {}, 0
  if #held <= count * (DIGITS + 1) and not string.find(held, '[^%d,]') then
    ours, same = split(held)
  end
  for i = 1, count do
    if same ~= count or #ours[i] > DIGITS then
      replaced = replaced + 1
      return numbers
    end
    theirs[i] = join(ours[i], theirs[i])
  end
  return table.concat(theirs, ',')
end

local last = asked(KEYS[1], redis.pcall('GET', KEYS[1]), function() return redis.call('GET', KEYS[1]) end)
last = last and whole(string.match(string.sub(last, 1, 32), '^n(%d+)$'))
if last and last >= tonumber(ARGS[2]) then
  return told({1, now, replaced})
elseif tonumber(ARGS[1]) ~= math.floor(second / DAY) then
  return told({0, now, replaced})
end

local sizes = {}
for i = 2, #KEYS do
  local key = KEYS[i]
  sizes[i] = asked(key, redis.pcall('HLEN', key), function() return redis.call('HLEN', key) end) or 0
  if sizes[i] > NAMES + 1 then
    replace(key)
    sizes[i] = 0
  end
end

for i = 3, #ARGS, 3 do
  local place, name, numbers = tonumber(ARGS[i]), ARGS[i + 1], ARGS[i + 2]
  local key = KEYS[place]
  local held = redis.call('HMGET', key, name)[1]
  if not held and sizes[place] >= MODELS and string.sub(name, 1, 2) == 'u/' then
    name = string.match(name, '^u/[^/]*/[^/]*/') .. 'other'
    held = redis.call('HMGET', key, name)[1]
  end
  if not held and sizes[place] >= NAMES then
    name, numbers = 'o/', '1'
    held = redis.call('HMGET', key, name)[1]
  end
  if held then
    numbers = together(held, numbers, string.sub(name, 1, 2) == 'm/' and larger or plus)
  else
    sizes[place] = sizes[place] + 1
  end
  redis.call('HSET', key, name, numbers)
end
for i = 2, #KEYS do
  redis.call('EXPIRE', KEYS[i], KEPT)
end
redis.call('SET', KEYS[1], 'n' .. ARGS[2], 'EX', '172800')
return told({1, now, replaced})
