-- Take a job: ownerless, or (takeover) of the named former owner whose lease is over.
-- KEYS: job, own lease
-- ARGV: job id, own incarnation, former owner ('' for none), notice of a takeover, namespaces served (' a b '),
--       event that says that no worker can run the job (without detail and attempt), the own namespace, for jobs that
--       name none, Redis' life as far as the worker knows ('' for any), own version
-- Returns {outcome, record}: claimed, mine, owned, final, missing, redis_changed, no_lease, not_served; or unreadable and
-- which of its fields this version cannot read
local found = fields(KEYS[1], 'status', 'owner', 'forgotten', 'namespace', 'queue', 'detail',
  'attempt', NEEDED)
if not found[1] then return redis.call('EXISTS', KEYS[1]) == 1 and {'unreadable', 'status'} or {'missing'} end
if found[3] then return {'final'} end
local owner = found[2] or ''
if owner == ARGV[2] then
  local record = whole(KEYS[1])
  local strange = strange_of(record)
  return strange and {'unreadable', strange} or {'mine', record}
end
if owner ~= '' and (owner ~= ARGV[3] or redis.call('EXISTS', 'podrelay:worker:' .. owner) == 1) then
  return {'owned'}
end
-- In another life of Redis than the worker knows, the job may have been claimed, and even have ended.
if ARGV[8] ~= '' and ARGV[8] ~= life() then return {'redis_changed'} end
-- A claim without a lease could be taken over at once by a third worker.
if redis.call('EXISTS', KEYS[2]) == 0 then return {'no_lease'} end
local strange = strange_of(whole(KEYS[1]))
if strange then return {'unreadable', strange} end
-- One more could be read by nobody.
for _, name in ipairs({'epoch', 'takeovers'}) do
  if redis.call('HGET', KEYS[1], name) == '999999999' then return {'unreadable', name} end
end
although_full()

local namespace, needed = (found[4] or '') ~= '' and found[4] or ARGV[7], found[8]
local is_served = namespace == '' or string.find(ARGV[5], ' ' .. namespace .. ' ', 1, true)
if not is_served or is_older(ARGV[9], needed) then
  local at = now()
  local can = prospect(found[5], namespace, at, needed)
  if can.awaited then redis.call('HDEL', KEYS[1], 'unserved_until') end
  if can.serves then
    offer(found[5], ARGV[1], namespace, needed)
    return {'not_served'}
  end
  -- A job that names no namespace cannot have named a wrong one.
  if not can.awaited and found[1] == 'QUEUED' and (found[4] or '') ~= '' then
    redis.call('HSETNX', KEYS[1], 'unserved_until', text(at + UNSERVED_S))
  end
  local why = why_nobody(can, namespace, needed)
  if found[1] == 'QUEUED' and found[6] ~= why then
    redis.call('HSET', KEYS[1], 'detail', why)
    local event = cjson.decode(ARGV[6])
    event.detail, event.attempt = why, tonumber(found[7])
    append_event(ARGV[1], KEYS[1], cjson.encode(event), false)
  end
  return {'not_served'}
end
for _, why in ipairs({UNSERVED, TOO_OLD}) do
  if string.find(found[6] or '', why, 1, true) == 1 then redis.call('HDEL', KEYS[1], 'detail') end
end
redis.call('HDEL', KEYS[1], 'unserved_until')

redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'at:claimed', text(now()))
if redis.call('HSETNX', KEYS[1], 'first_owner', ARGV[2]) == 0 then
  redis.call('HINCRBY', KEYS[1], 'takeovers', 1)
  if not is_final(found[1]) then append_event(ARGV[1], KEYS[1], ARGV[4], false) end
end
return {'claimed', whole(KEYS[1])}
