-- Make a record again that Redis has lost, from the owner's memory or a pod's annotations. Never over an existing one.
-- KEYS: job, active, queues, generation
-- ARGV: job id, queue, key ('' for none), event, own incarnation, new generation, then field, value, ...
-- Returns restored, exists, or superseded: its caller has submitted the same spec under the same key again, and the
-- newer job, once launched, takes the pod over.
if redis.call('EXISTS', KEYS[1]) == 1 then return 'exists' end
local fields, digest = {}, nil
for i = 7, #ARGV do fields[#fields + 1] = ARGV[i] end
for i = 1, #fields, 2 do if fields[i] == 'digest' then digest = fields[i + 1] end end
local newer = ARGV[3] ~= '' and redis.call('GET', 'podrelay:key:' .. ARGV[3])
if newer and newer ~= ARGV[1] then
  local found = redis.call('HMGET', 'podrelay:job:{' .. newer .. '}', 'status', 'digest')
  if found[1] and found[2] == digest and not is_final(found[1]) then return 'superseded' end
end
although_full()
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
