-- Stands before every script, after KNOWN: the statuses, intents, reasons and limits of this version. Time is Redis' own: no
-- other machine's clock decides anything. What is in Redis may be another version's, or anybody's: a script reads it
-- with redis.pcall and looks at its kind, and has looked at all of it before its first write.
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end
local function text(seconds) return string.format('%.6f', seconds) end
local function is_final(status) return status == 'SUCCEEDED' or status == 'FAILED' or status == 'CANCELLED' end
-- A time or a span in seconds; nil for what is none: NaN, negative, beyond any date.
local function seconds(found)
  if type(found) == 'string' and not string.find(found, '^[%d.eE+-]+$') then return nil end
  local n = tonumber(found)
  if n and n >= 0 and n < 1e11 then return n end
end
-- The fields of a record or an index, false each that is not there; of a key that is no hash, none.
local function fields(key, ...)
  local found = redis.pcall('HMGET', key, ...)
  return found.err and {} or found
end
-- A string key; false where there is none, or a key of another type.
local function string_at(key)
  local found = redis.pcall('GET', key)
  return type(found) == 'string' and found
end
-- A key of ours that is of another type holds nothing of ours and refuses every write: it gives way. Returns whether.
local function make_way(key, wanted)
  local found = redis.call('TYPE', key)
  found = found.ok or found
  if found == wanted or found == 'none' then return false end
  redis.call('DEL', key)
  return true
end

-- How the fields of a record read that a worker acts on.
local function is_count(x) return x == '0' or (#x <= 16 and string.find(x, '^[1-9]%d*$') and tonumber(x) < 2 ^ 53) end
-- What counts one by one: claims, attempts. The scripts reckon with it, so that it ends long before numbers do.
local function is_tally(x) return #x <= 9 and is_count(x) end
local function is_time(x) return #x <= 21 and string.find(x, '^%d+%.?%d*$') and tonumber(x) < 1e11 end
local function is_checkpoint(x, name)
  local attempt = string.match(name, '^checkpoint:(%d+):.')
  local last, at, nth, bytes, chain = string.match(x, '^(%d+) ([^ ]+) (%d+) (%d+) [^ ]+ (%x+)$')
  if not attempt or not last or #chain ~= 64 then return false end
  if at ~= '-' and not string.find(at, '^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d[%d.Z:+-]*$') then return false end
  return is_count(attempt) and is_count(last) and is_count(nth) and is_count(bytes)
end
-- Three numbers, as a record names the version that its job needs.
local function is_version(x)
  local found = {string.match(x, '^(%d+)%.(%d+)%.(%d+)$')}
  return #found == 3 and #found[1] <= 4 and #found[2] <= 4 and #found[3] <= 4
end
-- 0.1 takes each field `at:` for a time, and this one for one that it cannot read: so it leaves the job alone.
local NEEDED = 'at:min_worker_version'
local READ = {
  status = function(x) return KNOWN.status[x] end,
  intent = function(x) return x == '' or KNOWN.intent[x] end,
  intent_reason = function(x) return x == '' or KNOWN.reason[x] end,
  queue = function(x) return #x <= 63 and string.find(x, '^[a-z0-9][a-z0-9-]*$') end,
  epoch = is_tally, attempt = is_tally, takeovers = is_tally, not_before = is_time, [NEEDED] = is_version,
}
-- Whether this version cannot read the field: another version's status or intent, or junk. Whoever wrote it knows what
-- it means, so no worker that does not touches the job. dispatcher/record.py reads the same.
local function is_strange(name, value)
  local read = READ[name] or string.find(name, '^at:') and is_time or string.find(name, '^checkpoint:') and is_checkpoint
  return read and not read(value, name)
end
-- The first field of a whole record (field, value, ...) that this version cannot read; nil where it can read all.
local function strange_of(record)
  local has = {}
  for i = 1, #record, 2 do
    if is_strange(record[i], record[i + 1]) then return record[i] end
    has[record[i]] = true
  end
  return not has.status and 'status' or not has.queue and 'queue' or nil
end
-- A whole record, field and value in turn; instead of one, why it cannot be read (a text). What is longer than any
-- field of ours is cut behind that length, where its reader sees that it is too long.
local MOST_BYTES = 4 * 1024 * 1024
local function whole(job)
  local found = redis.pcall('HGETALL', job)
  if found.err then return found.err end
  local left = 4 * MOST_BYTES
  for i = 1, #found do
    local most = math.min(MOST_BYTES, left)
    if #found[i] > most then found[i] = string.sub(found[i], 1, most + 1) end
    left = math.max(0, left - #found[i])
  end
  return found
end

-- What a worker says of itself: its namespaces, why it is refused in others, when it was last seen (0: not said), its
-- version ('': before 0.2). Of an unreadable entry nothing: one bad entry must not blind everybody.
local function said_by(json)
  local is_json, said = pcall(cjson.decode, json)
  if not is_json or type(said) ~= 'table' then said = {} end
  local function as_table(x) return type(x) == 'table' and x or {} end
  local version = type(said.version) == 'string' and string.match(said.version, '^%d+%.%d+%.%d+[%w.+-]*$') or ''
  return {namespaces = as_table(said.namespaces), refused = as_table(said.refused), last_seen = seconds(said.last_seen) or 0,
    version = string.sub(version, 1, 32)}
end
-- Whether a worker of this version lacks what a job needs (false or nil: nothing). Pre-releases count as their release.
local function is_older(version, needed)
  if not needed then return false end
  local has, needs = {string.match(version, '^(%d+)%.(%d+)%.(%d+)')}, {string.match(needed, '^(%d+)%.(%d+)%.(%d+)')}
  for i = 1, 3 do
    local mine, other = tonumber(has[i] or 0), tonumber(needs[i] or 0)
    if mine ~= other then return mine < other end
  end
  return false
end
-- Whether a worker that says this of itself serves the namespace ('': its own).
local function serves(said, namespace)
  if namespace == '' then return true end
  for _, served in ipairs(said.namespaces) do
    if served == namespace then return true end
  end
  return false
end
-- A queue's workers: incarnation and what it says of itself (JSON) in turn; none where the key is no hash.
local function workers_of(queue)
  local found = redis.pcall('HGETALL', 'podrelay:queue:' .. queue .. ':workers')
  return found.err and {} or found
end
-- What a job in this namespace that needs this version (false: any) can expect of its queue's workers. `serves`: one that
-- is alive would take it; `refused`: one is to serve it, and this is why it cannot (false: none is); `awaited`: one is to
-- serve it, or did within the last hour and may come back; `alive`: how many there are, and `others` what these are to
-- serve; `too_old`: the versions of those that would take it if they were newer.
local SERVED_LATELY_S = 3600
local function prospect(queue, namespace, at, needed)
  local found = {serves = false, refused = false, awaited = false, alive = 0, others = {}, too_old = {}}
  local workers, listed = workers_of(queue), {others = {}, too_old = {}}
  local function note(name, list)
    if type(name) == 'string' and not listed[list][name] and #found[list] < 1000 then
      listed[list][name] = true
      found[list][#found[list] + 1] = name
    end
  end
  for i = 1, #workers, 2 do
    local said = said_by(workers[i + 1])
    local why, has = said.refused[namespace], serves(said, namespace)
    if (has or why ~= nil) and at < said.last_seen + SERVED_LATELY_S then found.awaited = true end
    if redis.call('EXISTS', 'podrelay:worker:' .. workers[i]) == 1 then
      found.alive = found.alive + 1
      if has and is_older(said.version, needed) then
        note(said.version == '' and 'before 0.2' or said.version, 'too_old')
        found.awaited = true
      else
        found.serves = found.serves or has
      end
      if why ~= nil then found.awaited = true end
      found.refused = found.refused or type(why) == 'string' and why
      for _, name in ipairs(said.namespaces) do note(name, 'others') end
      for name in pairs(said.refused) do note(name, 'others') end
    end
  end
  found.awaited = found.awaited or found.serves
  table.sort(found.others)
  table.sort(found.too_old)
  return found
end
-- Why no living worker takes a job, where none does: their versions, or its namespace.
local UNSERVED, TOO_OLD = 'no worker serves namespace ', 'needs a worker of version '
local function why_nobody(can, namespace, needed)
  if needed and (#can.too_old > 0 or namespace == '') then
    local alive = table.concat(can.too_old, ', ', 1, math.min(#can.too_old, 10))
    return TOO_OLD .. '≥ ' .. needed .. '; those alive: ' .. (alive == '' and 'none' or alive)
  end
  return UNSERVED .. namespace .. (can.refused and ': ' .. can.refused or '')
end
-- Tell the queue's workers of a job that only some of them can run: its message may have come to another.
local function offer(queue, job_id, namespace, needed)
  local told = cjson.encode({offered = job_id, namespace = namespace, min_worker_version = needed or nil})
  redis.call('PUBLISH', 'podrelay:queue:' .. queue .. ':control', told)
end
-- How long a job waits in a namespace that none of its queue's live workers is to serve: a worker that has just been told
-- to serve it may be starting. The time at which that is over stands in the record's field unserved_until.
local UNSERVED_S = 30
-- Whether a job waits beyond one of its limits, so that anybody may end it (expire.lua).
local function is_overdue(at, status, owner, pod, queued_at, queue_timeout_s, unserved_until)
  if status ~= 'QUEUED' or (pod or '') ~= '' then return false end
  local since, limit_s, until_at = seconds(queued_at), seconds(queue_timeout_s), seconds(unserved_until)
  if since and limit_s and at >= since + limit_s then return true end
  return (owner or '') == '' and until_at and at >= until_at or false
end
-- Before the first write of a step that tells or ends what there is already: it must be possible in a full Redis too.
-- That refuses what may need memory only until a script has written: a first write that needs none opens the way.
local function although_full() redis.call('DEL', 'podrelay:nothing') end
-- How many bytes of log fit beside all else, and the limit they count against: `limit` bytes for all of Redis (0: none
-- was set), but at most 95 % of maxmemory. INFO takes 5 to 25 µs. Where it says nothing (fakeredis) there is no limit.
local function room_for_log(limit)
  local info = redis.pcall('INFO', 'memory')
  info = type(info) == 'string' and info or ''
  local used, most = string.match(info, 'used_memory:(%d+)'), tonumber(string.match(info, '\nmaxmemory:(%d+)') or '0')
  if most > 0 and (limit == 0 or limit > 0.95 * most) then limit = 0.95 * most end
  if not used or limit == 0 then return 2 ^ 50, 0 end
  return limit - tonumber(used), limit
end
-- Redis' present life: its generation, and the run of its server. What another one has confirmed may be lost.
local function life()
  local info = redis.pcall('INFO', 'server')
  local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
  return (string_at('podrelay:generation') or '') .. ' ' .. run
end
-- Redis' generation, which is made where there is none, or something that is none.
local function ensure_generation(key, new)
  local found = string_at(key)
  if found and #found <= 64 and string.find(found, '^[%w-]+$') then return found end
  redis.call('SET', key, new)
  return new
end
local function ring(job_id) redis.call('PUBLISH', 'podrelay:bell:{' .. job_id .. '}', '') end

-- Append to a stream of ours. What takes no entry (it is none, or ends with the last id that there is) gives way.
local function append(stream, ...)
  local id = redis.pcall('XADD', stream, '*', ...)
  if type(id) == 'string' then return id end
  local why = tostring(id.err)
  if string.find(why, 'WRONGTYPE', 1, true) or string.find(why, 'exhausted', 1, true) then redis.call('DEL', stream) end
  return redis.call('XADD', stream, '*', ...)
end

-- The final event carries what only this step can know: the log's last entry, and when each status was reached.
local function append_event(job_id, job, event, is_end)
  local stream = 'podrelay:events:{' .. job_id .. '}'
  if is_end then
    local reached = {}
    local names = {'submitted', 'queued', 'starting', 'running', 'succeeded', 'failed', 'cancelled'}
    for _, name in ipairs(names) do
      local at = redis.call('HGET', job, 'at:' .. name)
      if at then reached[#reached + 1] = name .. '=' .. at end
    end
    local log_end = redis.call('HGET', job, 'log_end') or '0-0'
    append(stream, 'e', event, 'l', log_end, 't', table.concat(reached, ' '))
  else
    append(stream, 'e', event)
  end
  ring(job_id)
end

-- Of a job and those that it waited for, the first that is not forgotten: while there is one, the key may have a pod.
local function standing(job_id)
  local seen = {}
  for _ = 1, 1000 do
    if not job_id or seen[job_id] then return nil end
    seen[job_id] = true
    local f = fields('podrelay:job:{' .. job_id .. '}', 'status', 'forgotten', 'predecessor')
    if f[1] and not f[2] then return job_id end
    job_id = f[1] and f[3]
  end
end
-- A key stands for a job within its queue. Its entry bears the key alone, as versions before 0.2 look for it, unless
-- another queue's job has that name: then the queue stands before it (no key and no queue has a NUL).
local ENTRY = 'podrelay:key:'
local function scoped(queue, key) return queue .. '\0' .. key end
-- The job of this queue that the entry names; nil for none. And whether it names another queue's.
local function named_by(entry, queue)
  local job_id = string_at(ENTRY .. entry)
  local found = job_id and fields('podrelay:job:{' .. job_id .. '}', 'status', 'queue') or {}
  if not found[1] then return nil, false end
  return found[2] == queue and job_id or nil, found[2] ~= queue
end
-- The job that a queue's key stands for (nil for none), and the entry that a next one is to get.
local function job_of_key(queue, key)
  local job_id, is_anothers = named_by(key, queue)
  if job_id then return job_id, key end
  job_id = named_by(scoped(queue, key), queue)
  return job_id, is_anothers and scoped(queue, key) or key
end

-- How long a record is kept: a year at most, whatever it says (an EXPIRE beyond that is refused, or at once over).
local function retention_s(said, default) return math.min(math.max(math.ceil(seconds(said) or default), 1), 366 * 86400) end

-- Out of the active jobs, and the clock of its retention starts. Safe to run twice.
local function forget(job_id, job, queue, at)
  local kept = redis.call('HMGET', job,
    'retention_s', 'acknowledged_retention_s', 'acknowledged', 'key', 'successor', 'predecessor')
  local keep_s = retention_s(kept[1], 86400)
  if kept[3] then keep_s = math.min(keep_s, retention_s(kept[2], 3600)) end
  redis.call('HSET', job, 'forgotten', text(at))
  local active, recent = 'podrelay:queue:' .. queue .. ':active', 'podrelay:queue:' .. queue .. ':recent'
  make_way(active, 'zset')
  make_way(recent, 'zset')
  redis.call('ZREM', active, job_id)
  redis.call('ZREMRANGEBYSCORE', recent, '-inf', text(at))
  redis.call('ZADD', recent, text(at + keep_s), job_id)
  redis.call('EXPIRE', job, keep_s)
  redis.call('EXPIRE', 'podrelay:events:{' .. job_id .. '}', keep_s)
  redis.call('EXPIRE', 'podrelay:log:{' .. job_id .. '}', keep_s)
  if kept[4] then
    local name = ENTRY .. kept[4]
    if string_at(name) == job_id then redis.call('EXPIRE', name, keep_s) end
  end
  local successor = kept[5] and 'podrelay:job:{' .. kept[5] .. '}'
  if successor and fields(successor, 'status')[1] then
    -- A job that ended while it waited hands on what it waited for.
    local other = standing(kept[6])
    if other then
      redis.call('HSET', successor, 'predecessor', other)
      redis.call('HSET', 'podrelay:job:{' .. other .. '}', 'successor', kept[5])
    end
    redis.call('PUBLISH', 'podrelay:queue:' .. queue .. ':control', cjson.encode({wake = kept[5]}))
  end
end
