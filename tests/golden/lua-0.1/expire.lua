-- End a job that has waited in its queue beyond its limit. Unfenced: any client or worker may call it.
-- KEYS: job
-- ARGV: job id, event and result for queue_timeout, event and result for quota_timeout; in each (JSON) the mark @last@
--       stands where what the job last waited for belongs
-- Returns expired, or early (not QUEUED, has a pod, its time is not over, or it cannot be read), or missing
local found = fields(KEYS[1], 'status', 'pod', 'at:queued', 'queue_timeout_s', 'queue', 'owner', 'wait', 'detail')
if not found[1] then return 'missing' end
local at, since, limit_s = now(), seconds(found[3]), seconds(found[4])
if found[1] ~= 'QUEUED' or (found[2] or '') ~= '' or not since or not limit_s or at < since + limit_s then return 'early' end
if strange_of(whole(KEYS[1])) then return 'early' end
local i, reason = 2, 'queue_timeout'
if found[7] == 'quota' then i, reason = 4, 'quota_timeout' end
local last = (found[8] or '') ~= '' and ' (it last said: ' .. string.sub(cjson.encode(found[8]), 2, -2) .. ')' or ''
local function told(json) return (string.gsub(json, '@last@', function() return last end)) end
although_full()
redis.call('HSET', KEYS[1], 'status', 'FAILED', 'reason', reason, 'at:failed', text(at), 'result', told(ARGV[i + 1]))
append_event(ARGV[1], KEYS[1], told(ARGV[i]), true)
-- An owner may be between its create and its next step: it then finds the job final, deletes the pod and forgets.
if (found[6] or '') == '' then forget(ARGV[1], KEYS[1], found[5], at) end
return 'expired'
