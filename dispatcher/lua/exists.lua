-- KEYS: any
return redis.call('EXISTS', KEYS[1])
