-- Renew a worker's lease and tell the queue that it lives.
-- KEYS: lease, workers, generation
-- ARGV: incarnation, lease in milliseconds, what it says of itself (JSON object without last_seen), new generation
-- Returns {time, generation, whether the lease had still been there}
local at = now()
local had = redis.call('EXISTS', KEYS[1])
redis.call('SET', KEYS[1], text(at), 'PX', ARGV[2])
local info = cjson.decode(ARGV[3])
info.last_seen = at
redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(info))
redis.call('SETNX', KEYS[3], ARGV[4])
return {text(at), redis.call('GET', KEYS[3]), had}
