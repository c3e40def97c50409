-- Tries every command that our scripts use, on a key of its own.
-- Reply: 1; microseconds of the present; 0.

local key = KEYS[1]
redis.call('SET', key, '1', 'NX', 'PX', '60000')
redis.call('GET', key)
redis.call('PTTL', key)
redis.call('STRLEN', key)
redis.call('GETRANGE', key, '0', '0')
redis.call('DEL', key)
redis.call('HSET', key, 'f', '1')
redis.call('EXPIRE', key, 60)
redis.call('HMGET', key, 'f')
redis.call('HLEN', key)
redis.call('HGETALL', key)
redis.call('HDEL', key, 'f')
redis.call('ZADD', key, '1', 'm')
redis.call('EXPIRE', key, 60)
redis.call('ZCARD', key)
redis.call('ZRANGEBYSCORE', key, '-inf', '0')
redis.call('ZREM', key, 'm')
return told({1, now, 0})
