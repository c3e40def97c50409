-- Tells bytes that write.lua kept.
-- KEYS: where. ARGS: the most bytes that there may be.
-- Reply: a list of two. A text: 1, or 0 where there is nothing; microseconds of the present; unreadable values that were replaced;
-- when they were written. And the bytes.

local key = KEYS[1]
local size = asked(key, redis.pcall('STRLEN', key), function() return redis.call('STRLEN', key) end) or 0
local written = nil
if size > 0 then
  written = size - 16 <= tonumber(ARGS[1]) and whole(redis.call('GETRANGE', key, '0', '15'))
  if not written then
    replace(key)
  end
end
if not written then
  return {told({0, now, replaced, 0}), ''}
end
return {told({1, now, replaced, written}), redis.call('GETRANGE', key, '16', '-1')}
