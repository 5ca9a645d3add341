-- End a job that has waited beyond its limit: in its queue, or in a namespace that no worker is to serve. Unfenced: any
-- client or worker may call it.
-- KEYS: job
-- ARGV: job id, event and result for queue_timeout, for quota_timeout, and for a namespace that nobody serves; in each
--       (JSON) the mark @last@ stands where what the job last waited for belongs, @namespace@ and @served@ for what was
--       asked and what there is
-- Returns expired, or early (not QUEUED, has a pod, its time is not over, or it cannot be read), or missing
local found = fields(KEYS[1], 'status', 'pod', 'at:queued', 'queue_timeout_s', 'queue', 'owner', 'wait', 'detail', 'namespace',
  'unserved_until', NEEDED)
if not found[1] then return 'missing' end
local at, queue, owner, namespace = now(), found[5] or '', found[6] or '', found[9] or ''
if not is_overdue(at, found[1], owner, found[2], found[3], found[4], found[10]) then return 'early' end
if strange_of(whole(KEYS[1])) then return 'early' end
local can = prospect(queue, namespace, at, found[11])
local i, reason = 2, 'queue_timeout'
if found[7] == 'quota' then i, reason = 4, 'quota_timeout' end
if not is_overdue(at, found[1], owner, found[2], found[3], found[4]) then
  if can.awaited or can.alive == 0 or namespace == '' then
    although_full()
    redis.call('HDEL', KEYS[1], 'unserved_until')
    if can.serves then offer(queue, ARGV[1], namespace, found[11]) end
    return 'early'
  end
  i, reason = 6, 'invalid_spec'
end
local function within(text) return string.sub(cjson.encode(text), 2, -2) end
local said, last = found[8] or '', ' (no worker is alive on the queue)'
if said == '' and #can.too_old > 0 and not can.serves then said = why_nobody(can, namespace, found[11]) end
if said ~= '' then last = ' (it last said: ' .. within(said) .. ')'
elseif can.alive > 0 then last = ' (live workers of the queue: ' .. can.alive .. '; none has taken it)' end
local served = #can.others > 0 and within(table.concat(can.others, ', ', 1, math.min(#can.others, 20))) or 'none'
if #can.others > 20 then served = served .. ', …' end
local marks = {last = last, namespace = within(namespace), served = served}
local function told(json) return (string.gsub(json, '@(%l+)@', marks)) end
although_full()
redis.call('HSET', KEYS[1], 'status', 'FAILED', 'reason', reason, 'at:failed', text(at), 'result', told(ARGV[i + 1]))
append_event(ARGV[1], KEYS[1], told(ARGV[i]), true)
-- An owner may be between its create and its next step: it then finds the job final, deletes the pod and forgets.
if owner == '' then forget(ARGV[1], KEYS[1], queue, at) end
return 'expired'
