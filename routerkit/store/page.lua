-- Tells what tally.lua added up in one part of a day.
-- KEYS: the part. ARGS: the most bytes that may be told.
-- Reply: 1; microseconds of the present; unreadable values that were replaced; those that are left out; then for each entry its name
-- and its numbers with commas between them.

local NAMES = 4001 -- as tally.lua makes them
local NAME = 400 -- characters
local NUMBERS = 1000 -- characters
local key, most = KEYS[1], tonumber(ARGS[1])
local reply, left_out, size = {}, 0, 0

local found = asked(key, redis.pcall('HLEN', key), function() return redis.call('HLEN', key) end) or 0
if found > NAMES then
  replace(key)
elseif found > 0 then
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local name, numbers = all[i], all[i + 1]
    size = size + #name + #numbers + 2
    if #name > NAME or #numbers > NUMBERS or not string.find(name, '^[!-~]+$') or not string.find(numbers, '^%d[%d,]*$') or size > most then
      left_out = left_out + 1
    else
      reply[#reply + 1] = name
      reply[#reply + 1] = numbers
    end
  end
end
return told({1, now, replaced, left_out}) .. ' ' .. table.concat(reply, ' ')
