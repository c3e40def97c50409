-- What the scripts share: the arithmetic of routerkit/core/limits.py on what Redis holds. Each script follows this text.
--
-- A rate is a hash: l, the level of its bucket in unit-microseconds, and t, when that was in microseconds.
-- Any other limit is a hash: p, the number of its period; n, what was taken; r, what is held; b, when the hash was born; f, the
-- part of n that clients remembered after it was lost. What is held stands in a sorted set beside it, by the end of its lease:
-- "<place>:<cost>:<grant>". Every number is whole, and written with '%.0f': tostring() would round it.
-- What is unreadable under one of our keys is replaced, and counted.

local MINUTE = 60000000
local DAY = 86400
local PURGED = 500
local replaced = 0

local clock = redis.call('TIME')
local second = tonumber(clock[1])
local now = second * 1000000 + tonumber(clock[2])

-- Arguments come in one text with blanks between them, and numbers go back in one: it is half the work for the client.
local ARGS = {}
for word in string.gmatch(ARGV[1], '%S+') do
  ARGS[#ARGS + 1] = word
end

local function text(number)
  return string.format('%.0f', number)
end

local function told(reply)
  for i = 1, #reply do
    reply[i] = text(reply[i])
  end
  return table.concat(reply, ' ')
end

local function whole(value)
  if value and #value <= 20 and string.find(value, '^%d+$') then
    return tonumber(value)
  end
end

local function replace(key)
  redis.call('DEL', key)
  replaced = replaced + 1
end

-- The reply to a command that reads our key, or nil when something else is there.
local function asked(key, reply, again)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'WRONGTYPE', 1, true) then
      replace(key)
      return nil
    end
    return again()
  end
  return reply
end

local function fields(key, ...)
  local names = {...}
  local found = asked(key, redis.pcall('HMGET', key, ...), function() return redis.call('HMGET', key, unpack(names)) end)
  local values = {}
  for i = 1, #names do
    local value = found and found[i]
    if value then
      values[i] = whole(value)
      if not values[i] then
        replace(key)
        return {}
      end
    end
  end
  return values
end

-- Months since 1970 of a day since 1970, in the Gregorian calendar counted from 1 March of the year 0.
local function month(days)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local shifted = math.floor((5 * doy + 2) / 153)
  local number = shifted < 10 and shifted + 2 or shifted - 10
  local year = yoe + era * 400 + (number < 2 and 1 or 0)
  return (year - 1970) * 12 + number
end

local function period_number(kind, period)
  if kind == 'day' or period == 'day' then
    return math.floor(second / DAY)
  elseif period == 'month' then
    return month(math.floor(second / DAY))
  end
  return 0
end

local function keeps(kind, period)
  if kind == 'money' and period == 'month' then
    return 40 * DAY
  elseif kind == 'money' and period == 'total' then
    return 400 * DAY
  end
  return 2 * DAY
end

local function save_level(key, volume)
  redis.call('HSET', key, 'l', text(volume), 't', text(now))
  redis.call('EXPIRE', key, 120)
end

local function leaked(key, cap)
  local found = fields(key, 'l', 't')
  if not found[1] or not found[2] then
    return 0
  end
  local volume = math.min(found[1], cap * MINUTE)
  if found[2] > now then -- the clock has jumped back: from here on it leaks again
    save_level(key, volume)
    return volume
  end
  return math.max(0, volume - (now - found[2]) * cap)
end

local function load_count(key)
  local found = fields(key, 'p', 'n', 'r', 'b', 'f')
  if found[1] and found[2] and found[3] and found[4] and found[5] then
    return {p = found[1], n = found[2], r = found[3], b = found[4], f = found[5]}
  end
end

local function save_count(key, count, seconds)
  redis.call('HSET', key, 'p', text(count.p), 'n', text(count.n), 'r', text(count.r), 'b', text(count.b), 'f', text(count.f))
  redis.call('EXPIRE', key, seconds)
end

local function born(number)
  return {p = number, n = 0, r = 0, b = now, f = 0, fresh = true}
end
