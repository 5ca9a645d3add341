-- Take a job: ownerless, or (takeover) of the named former owner whose lease is over.
-- KEYS: job, own lease
-- ARGV: job id, own incarnation, former owner ('' for none), notice of a takeover
-- Returns {outcome, record...}: claimed, mine, owned, final, missing, no_lease
local found = redis.call('HMGET', KEYS[1], 'status', 'owner', 'forgotten')
if not found[1] then return {'missing'} end
if found[3] then return {'final'} end
local owner = found[2] or ''
if owner == ARGV[2] then return {'mine', unpack(redis.call('HGETALL', KEYS[1]))} end
if owner ~= '' and (owner ~= ARGV[3] or redis.call('EXISTS', 'podrelay:worker:' .. owner) == 1) then
  return {'owned'}
end
-- A claim without a lease could be taken over at once by a third worker.
if redis.call('EXISTS', KEYS[2]) == 0 then return {'no_lease'} end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'at:claimed', text(now()))
if redis.call('HSETNX', KEYS[1], 'first_owner', ARGV[2]) == 0 then
  redis.call('HINCRBY', KEYS[1], 'takeovers', 1)
  if not is_final(found[1]) then append_event(ARGV[1], KEYS[1], ARGV[4], false) end
end
return {'claimed', unpack(redis.call('HGETALL', KEYS[1]))}
