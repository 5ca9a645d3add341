-- KEYS: job
-- Returns the whole record, empty where there is none.
return redis.call('HGETALL', KEYS[1])
