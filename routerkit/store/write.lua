-- Keeps bytes, and when they were written: sixteen digits of microseconds stand before them.
-- KEYS: where. ARGS: milliseconds for which they are kept. ARGV[2]: the bytes.
-- Reply: 1; microseconds of the present; 0.

redis.call('SET', KEYS[1], string.format('%016.0f', now) .. ARGV[2], 'PX', ARGS[1])
return told({1, now, 0})
