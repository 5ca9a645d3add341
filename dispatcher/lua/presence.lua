-- Who could say something about a job that is silent.
-- KEYS: job, generation, events, log
-- Returns {time, generation, status ('' when unknown), owner, owner's lease lives, queue, overdue in its queue,
--          workers alive that serve the job's queue and namespace, when any was last seen ('' for never), when the
--          owner was last seen, namespace ('' for none), last event's id, last log entry's id}
local f = redis.call('HMGET', KEYS[1], 'status', 'owner', 'queue', 'at:queued', 'queue_timeout_s', 'pod', 'namespace')
local at, generation = now(), redis.call('GET', KEYS[2]) or ''
local function last(stream)
  local entries = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
  return entries[1] and entries[1][1] or '0-0'
end
if not f[1] then return {text(at), generation, '', '', '0', '', '0', '0', '', '', '', '0-0', '0-0'} end
local owner, queue, namespace = f[2] or '', f[3], f[7] or ''
local alive, last_seen, owner_seen = 0, 0, ''
local workers = redis.call('HGETALL', 'podrelay:queue:' .. queue .. ':workers')
for i = 1, #workers, 2 do
  local said = said_by(workers[i + 1])
  local seen = said.last_seen or 0
  if serves(said, namespace) then
    if redis.call('EXISTS', 'podrelay:worker:' .. workers[i]) == 1 then alive = alive + 1 end
    if seen > last_seen then last_seen = seen end
  end
  if workers[i] == owner then owner_seen = text(seen) end
end
local overdue = f[1] == 'QUEUED' and (f[6] or '') == '' and at >= tonumber(f[4]) + tonumber(f[5])
return {text(at), generation, f[1], owner, owner ~= '' and tostring(redis.call('EXISTS', 'podrelay:worker:' .. owner)) or '0',
  queue, overdue and '1' or '0', tostring(alive), last_seen > 0 and text(last_seen) or '', owner_seen, namespace, last(KEYS[3]),
  last(KEYS[4])}
