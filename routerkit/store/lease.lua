-- Gives a lease to one who asks, if nobody has it.
-- KEYS: the lease. ARGS: the token of who asks; milliseconds.
-- Reply: 1 or 0; microseconds of the present; unreadable values that were replaced.

local LONGEST = 600000
local key = KEYS[1]

local function take()
  return redis.call('SET', key, ARGS[1], 'NX', 'PX', ARGS[2])
end

local mine = take()
if not mine then
  local read = function(call) return call('GETRANGE', key, '0', '63') end
  local holder = asked(key, read(redis.pcall), function() return read(redis.call) end)
  if holder then
    local left = redis.call('PTTL', key)
    -- Not by us, or the clock has jumped back: nobody would ever get it.
    if left < 0 or left > LONGEST or not string.find(holder, '^%x+%-%d+$') then
      replace(key)
    end
  end
  mine = take()
end
return told({mine and 1 or 0, now, replaced})
