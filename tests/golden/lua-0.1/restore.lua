-- Make a record again that Redis has lost, from the owner's memory or a pod's annotations; or put it back as the owner
-- knows it, where Redis has lost the owner's claim or last steps. Never over a later owner's, nor over one that ended.
-- KEYS: job, active, queues, generation
-- ARGV: job id, queue, key ('' for none), event, own incarnation ('' for none), own epoch, step (unique), new
--       generation, then field, value, ...
-- Returns restored, exists (and is another's, or has ended), or superseded: its caller has submitted the same
-- spec under the same key again, and the newer job, once launched, takes the pod over.
although_full()
local digest
for i = 9, #ARGV, 2 do if ARGV[i] == 'digest' then digest = ARGV[i + 1] end end
local found = fields(KEYS[1], 'status', 'owner', 'epoch', 'last_step')
if found[1] then
  if found[4] == ARGV[7] then return 'restored' end
  local epoch, own = seconds(found[3]) or 0, tonumber(ARGV[6])
  local is_anothers = ARGV[5] == '' or epoch > own or (epoch == own and found[2] ~= ARGV[5])
  if is_anothers or is_final(found[1]) then return 'exists' end
  redis.call('HSET', KEYS[1], 'last_step', ARGV[7], 'owner', ARGV[5], 'epoch', ARGV[6])
  redis.call('HDEL', KEYS[1], 'detail', 'pod', 'pod_uid', 'node', 'intent', 'intent_reason',
    'intent_message', 'predecessor', 'wait', 'not_before', 'at:starting', 'at:running')
  for i = 9, #ARGV, 2 do
    -- How far the log is there is Redis' to say: what it lacks is appended again.
    if string.sub(ARGV[i], 1, 11) ~= 'checkpoint:' then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
  end
  append_event(ARGV[1], KEYS[1], ARGV[4], false)
  return 'restored'
end
local newer = ARGV[3] ~= '' and string_at('podrelay:key:' .. ARGV[3])
if newer and newer ~= ARGV[1] then
  local found = fields('podrelay:job:{' .. newer .. '}', 'status', 'digest')
  if found[1] and found[2] == digest and not is_final(found[1]) then return 'superseded' end
end
make_way(KEYS[1], 'hash')
make_way(KEYS[2], 'zset')
make_way(KEYS[3], 'set')
local generation = ensure_generation(KEYS[4], ARGV[8])
local at = text(now())
redis.call('HSET', KEYS[1], 'generation', generation, 'queue', ARGV[2], 'owner', ARGV[5], 'first_owner', ARGV[5],
  'epoch', ARGV[6], 'last_step', ARGV[7], 'at:submitted', at, 'at:queued', at)
for i = 9, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', KEYS[2], at, ARGV[1])
redis.call('SADD', KEYS[3], ARGV[2])
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'key', ARGV[3])
  redis.call('SETNX', 'podrelay:key:' .. ARGV[3], ARGV[1])
end
append_event(ARGV[1], KEYS[1], ARGV[4], false)
return 'restored'
