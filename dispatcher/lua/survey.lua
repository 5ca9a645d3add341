-- What a queue's active jobs are up to, a window at a time: for reconciliation and sweeps.
-- KEYS: active, workers
-- ARGV: first, last (ranks)
-- Returns {job id, when it was submitted, status ('' when the record is gone), owner, whether its lease lives ('1', '0'),
--          when its owner last renewed, epoch, who asked to cancel, namespace, attempt, pod uid, overdue ('1', '0'),
--          the owner's last step, the field that this version cannot read ('' where it can read all these), the version
--          that it needs ('' for any)}, ...
local NAMES = {'status', 'owner', 'epoch', 'cancel_by', 'namespace', 'attempt', 'pod_uid', 'at:queued', 'queue_timeout_s',
  'last_step', 'queue', 'intent', 'intent_reason', 'unserved_until',
  NEEDED}
local alive, seen, rows, at = {}, {}, {}, now()
local function strange_in(job, f)
  if not f[1] then return redis.call('EXISTS', job) == 1 and 'status' or '' end
  if not f[11] then return 'queue' end
  for i, name in ipairs(NAMES) do
    if f[i] and is_strange(name, f[i]) then return name end
  end
  return ''
end
local listed = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES')
for i = 1, #listed, 2 do
  local job = 'podrelay:job:{' .. listed[i] .. '}'
  local f = fields(job, unpack(NAMES))
  local owner, strange = f[2] or '', strange_in(job, f)
  if owner ~= '' and alive[owner] == nil then
    alive[owner] = tostring(redis.call('EXISTS', 'podrelay:worker:' .. owner))
    local info = fields(KEYS[2], owner)[1]
    seen[owner] = info and text(said_by(info).last_seen) or ''
  end
  local overdue = strange == '' and is_overdue(at, f[1], owner, f[7], f[8], f[9], f[14])
  rows[#rows + 1] = {listed[i], text(seconds(listed[i + 1]) or 0), f[1] or '', owner, alive[owner] or '0', seen[owner] or '',
    is_count(f[3] or '') and f[3] or '0', f[4] or '', f[5] or '', is_count(f[6] or '') and f[6] or '0', f[7] or '',
    overdue and '1' or '0', f[10] or '', strange, f[15] or ''}
end
return rows
