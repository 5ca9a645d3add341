-- Who could say something about a job that is silent.
-- KEYS: job, generation, events, log
-- Returns {time, generation, status ('' when unknown, 'unreadable' where the record tells none), owner, owner's lease
--          lives, queue, overdue in its queue, workers alive that can run the job, when any was last seen ('' for
--          never), when the owner was last seen, namespace ('' for none), last event's id, last log entry's id, until when
--          it waits in a namespace that nobody is to serve ('' where that is not so), why those alive cannot run it (''
--          unless it is their version)}
local f = fields(KEYS[1], 'status', 'owner', 'queue', 'at:queued', 'queue_timeout_s', 'pod', 'namespace', 'unserved_until',
  NEEDED)
local at, generation = now(), string_at(KEYS[2]) or ''
local function last(stream)
  local entries = redis.pcall('XREVRANGE', stream, '+', '-', 'COUNT', 1)
  return entries[1] and entries[1][1] or '0-0'
end
local status = f[1]
if not status then
  if redis.call('EXISTS', KEYS[1]) == 0 then
    return {text(at), generation, '', '', '0', '', '0', '0', '', '', '', '0-0', '0-0', '', ''}
  end
  status = 'unreadable'
end
local owner, queue, namespace = f[2] or '', f[3] or '', f[7] or ''
local alive, last_seen, owner_seen = 0, 0, ''
local workers = workers_of(queue)
for i = 1, #workers, 2 do
  local said = said_by(workers[i + 1])
  if serves(said, namespace) and not is_older(said.version, f[9]) then
    if redis.call('EXISTS', 'podrelay:worker:' .. workers[i]) == 1 then alive = alive + 1 end
    if said.last_seen > last_seen then last_seen = said.last_seen end
  end
  if workers[i] == owner then owner_seen = text(said.last_seen) end
end
local overdue = queue ~= '' and is_overdue(at, status, owner, f[6], f[4], f[5], f[8])
local can = f[9] and alive == 0 and prospect(queue, namespace, at, f[9])
local unserved = status == 'QUEUED' and owner == '' and seconds(f[8])
return {text(at), generation, status, owner, owner ~= '' and tostring(redis.call('EXISTS', 'podrelay:worker:' .. owner)) or '0',
  queue, overdue and '1' or '0', tostring(alive), last_seen > 0 and text(last_seen) or '', owner_seen, namespace, last(KEYS[3]),
  last(KEYS[4]), unserved and text(unserved) or '', can and #can.too_old > 0 and why_nobody(can, namespace, f[9]) or ''}
