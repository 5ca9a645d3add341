-- Ask for a job's end. A QUEUED job without owner and pod ends at once; otherwise its owner is told.
-- KEYS: job
-- ARGV: job id, by whom, final event, result
-- Returns {outcome, status}: cancelled, requested (also when it was before), final, missing, unreadable (it tells no
-- status or no queue)
local found = fields(KEYS[1], 'status', 'owner', 'pod', 'queue', 'cancel_by')
local status = found[1]
if not status or not found[4] then return {redis.call('EXISTS', KEYS[1]) == 1 and 'unreadable' or 'missing', ''} end
if is_final(status) then return {'final', status} end
local at = now()
although_full()
if not found[5] then redis.call('HSET', KEYS[1], 'cancel_by', ARGV[2], 'cancel_at', text(at)) end
if status == 'QUEUED' and (found[2] or '') == '' and (found[3] or '') == '' then
  redis.call('HSET', KEYS[1], 'status', 'CANCELLED', 'at:cancelled', text(at), 'result', ARGV[4])
  append_event(ARGV[1], KEYS[1], ARGV[3], true)
  forget(ARGV[1], KEYS[1], found[4], at)
  return {'cancelled', 'CANCELLED'}
end
redis.call('PUBLISH', 'podrelay:queue:' .. found[4] .. ':control', cjson.encode({cancel = ARGV[1], by = found[5] or ARGV[2]}))
return {'requested', status}
