-- What a queue's active jobs are up to, a window at a time: for reconciliation and sweeps.
-- KEYS: active, workers
-- ARGV: first, last (ranks)
-- Returns {job id, when it was submitted, status ('' when the record is gone), owner, whether its lease lives ('1', '0'),
--          when its owner last renewed, epoch, who asked to cancel, namespace, attempt, pod uid, overdue ('1', '0'),
--          the owner's last step}, ...
local alive, seen, rows, at = {}, {}, {}, now()
local listed = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES')
for i = 1, #listed, 2 do
  local f = redis.call('HMGET', 'podrelay:job:{' .. listed[i] .. '}', 'status', 'owner', 'epoch', 'cancel_by',
    'namespace', 'attempt', 'pod_uid', 'at:queued', 'queue_timeout_s', 'last_step')
  local owner = f[2] or ''
  if owner ~= '' and alive[owner] == nil then
    alive[owner] = tostring(redis.call('EXISTS', 'podrelay:worker:' .. owner))
    local info = redis.call('HGET', KEYS[2], owner)
    seen[owner] = info and text(said_by(info).last_seen or 0) or ''
  end
  local waits = f[1] == 'QUEUED' and (f[7] or '') == '' and f[8] and f[9]
  local overdue = waits and at >= tonumber(f[8]) + tonumber(f[9])
  rows[#rows + 1] = {listed[i], listed[i + 1], f[1] or '', owner, alive[owner] or '0', seen[owner] or '',
    f[3] or '0', f[4] or '', f[5] or '', f[6] or '0', f[7] or '', overdue and '1' or '0', f[10] or ''}
end
return rows
