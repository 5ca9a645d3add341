-- Stands before every script. Time is Redis' own: no other machine's clock decides anything.
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end
local function text(seconds) return string.format('%.6f', seconds) end
local function is_final(status) return status == 'SUCCEEDED' or status == 'FAILED' or status == 'CANCELLED' end
-- What a worker says of itself (nothing, where it is unreadable: one bad entry must not blind everybody).
local function said_by(json)
  local is_json, said = pcall(cjson.decode, json)
  return is_json and type(said) == 'table' and said or {}
end
-- Whether a worker that says this of itself serves the namespace ('': its own).
local function serves(said, namespace)
  if namespace == '' then return true end
  for _, served in ipairs(said.namespaces or {}) do
    if served == namespace then return true end
  end
  return false
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
  return (redis.call('GET', 'podrelay:generation') or '') .. ' ' .. run
end
local function ring(job_id) redis.call('PUBLISH', 'podrelay:bell:{' .. job_id .. '}', '') end

-- The final event carries what only this step can know: the log's last entry, and when each status was reached.
local function append_event(job_id, job, event, is_end)
  local stream = 'podrelay:events:{' .. job_id .. '}'
  local id
  if is_end then
    local reached = {}
    local names = {'submitted', 'queued', 'starting', 'running', 'succeeded', 'failed', 'cancelled'}
    for _, name in ipairs(names) do
      local at = redis.call('HGET', job, 'at:' .. name)
      if at then reached[#reached + 1] = name .. '=' .. at end
    end
    local log_end = redis.call('HGET', job, 'log_end') or '0-0'
    id = redis.call('XADD', stream, '*', 'e', event, 'l', log_end, 't', table.concat(reached, ' '))
  else
    id = redis.call('XADD', stream, '*', 'e', event)
  end
  ring(job_id)
  return id
end

-- Of a job and those that it waited for, the first that is not forgotten: while there is one, the key may have a pod.
local function standing(job_id)
  for _ = 1, 1000 do
    if not job_id then return nil end
    local f = redis.call('HMGET', 'podrelay:job:{' .. job_id .. '}', 'status', 'forgotten', 'predecessor')
    if f[1] and not f[2] then return job_id end
    job_id = f[1] and f[3]
  end
end

-- Out of the active jobs, and the clock of its retention starts. Safe to run twice.
local function forget(job_id, job, queue, at)
  local kept = redis.call('HMGET', job,
    'retention_s', 'acknowledged_retention_s', 'acknowledged', 'key', 'successor', 'predecessor')
  local keep_s = math.ceil(tonumber(kept[1] or '86400'))
  if kept[3] then keep_s = math.min(keep_s, math.ceil(tonumber(kept[2] or '3600'))) end
  redis.call('HSET', job, 'forgotten', text(at))
  redis.call('ZREM', 'podrelay:queue:' .. queue .. ':active', job_id)
  local recent = 'podrelay:queue:' .. queue .. ':recent'
  redis.call('ZREMRANGEBYSCORE', recent, '-inf', text(at))
  redis.call('ZADD', recent, text(at + keep_s), job_id)
  redis.call('EXPIRE', job, keep_s)
  redis.call('EXPIRE', 'podrelay:events:{' .. job_id .. '}', keep_s)
  redis.call('EXPIRE', 'podrelay:log:{' .. job_id .. '}', keep_s)
  if kept[4] then
    local name = 'podrelay:key:' .. kept[4]
    if redis.call('GET', name) == job_id then redis.call('EXPIRE', name, keep_s) end
  end
  local successor = kept[5] and 'podrelay:job:{' .. kept[5] .. '}'
  if successor and redis.call('EXISTS', successor) == 1 then
    -- A job that ended while it waited hands on what it waited for.
    local other = standing(kept[6])
    if other then
      redis.call('HSET', successor, 'predecessor', other)
      redis.call('HSET', 'podrelay:job:{' .. other .. '}', 'successor', kept[5])
    end
    redis.call('PUBLISH', 'podrelay:queue:' .. queue .. ':control', cjson.encode({wake = kept[5]}))
  end
end
