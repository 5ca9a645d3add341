-- What a queue's active jobs are up to, a window at a time: for the heartbeat's reconciliation, and sweeps.
-- KEYS: active, workers
-- ARGV: first, last (ranks)
-- Returns {job id, status ('' when the record is gone), owner, whether its lease lives ('1', '0'), epoch, who asked to
--          cancel, namespace, time until which it backs off, when its owner last renewed}, ...
local alive, seen, rows = {}, {}, {}
for _, job_id in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2])) do
  local f = redis.call('HMGET', 'podrelay:job:{' .. job_id .. '}',
    'status', 'owner', 'epoch', 'cancel_by', 'namespace', 'not_before')
  local owner = f[2] or ''
  if owner ~= '' and alive[owner] == nil then
    alive[owner] = tostring(redis.call('EXISTS', 'podrelay:worker:' .. owner))
    local info = redis.call('HGET', KEYS[2], owner)
    seen[owner] = info and text(cjson.decode(info).last_seen or 0) or ''
  end
  rows[#rows + 1] = {job_id, f[1] or '', owner, alive[owner] or '0', f[3] or '0', f[4] or '', f[5] or '', f[6] or '',
    seen[owner] or ''}
end
return rows
