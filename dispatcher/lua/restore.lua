-- Make a record again that Redis has lost, from the owner's memory or a pod's annotations. Never over an existing one.
-- KEYS: job, active, queues, generation
-- ARGV: job id, queue, key ('' for none), event, own incarnation, new generation, then field, value, ...
-- Returns restored, or exists
if redis.call('EXISTS', KEYS[1]) == 1 then return 'exists' end
local fields = {}
for i = 7, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('SETNX', KEYS[4], ARGV[6])
local generation = redis.call('GET', KEYS[4])
local at = text(now())
redis.call('HSET', KEYS[1], 'generation', generation, 'queue', ARGV[2], 'owner', ARGV[5], 'first_owner', ARGV[5],
  'at:submitted', at, 'at:queued', at, unpack(fields))
redis.call('ZADD', KEYS[2], at, ARGV[1])
redis.call('SADD', KEYS[3], ARGV[2])
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'key', ARGV[3])
  redis.call('SETNX', 'podrelay:key:' .. ARGV[3], ARGV[1])
end
append_event(ARGV[1], KEYS[1], ARGV[4], false)
return 'restored'
