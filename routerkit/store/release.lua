-- Gives leases back, each if it is still held by who had it.
-- KEYS: the leases. ARGS: their tokens.
-- Reply: how many were; microseconds of the present; unreadable values that were replaced.

local given = 0
for i = 1, #KEYS do
  local read = function(call) return call('GETRANGE', KEYS[i], '0', '63') end
  if asked(KEYS[i], read(redis.pcall), function() return read(redis.call) end) == ARGS[i] then
    given = given + redis.call('DEL', KEYS[i])
  end
end
return told({given, now, replaced})
