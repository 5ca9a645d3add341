-- Submit a job, or attach to the one that its key stands for: record, index, event and queue message in one step.
-- KEYS: job, active, queues, generation, message list
-- ARGV: job id, queue, spec, digest, event, message ('' for none), new generation, key ('' for none),
--       retention_s, acknowledged_retention_s, queue_timeout_s, namespace ('' for the worker's own), version that the
--       worker needs ('' for any)
-- Returns {outcome, job id, generation}: created, exists (this very id), attached, successor; too_large, its size and the
-- limit in bytes; or taken, and of the job that has this id: queue, status and spec
local job_id, queue, digest, key = ARGV[1], ARGV[2], ARGV[4], ARGV[8]
local size, limit = math.max(#ARGV[3], #ARGV[6]), KNOWN.spec_bytes
if size > limit and redis.call('EXISTS', KEYS[1]) == 0 then return {'too_large', tostring(size), tostring(limit)} end
-- A worker's: the spec was in Redis until now, as a message, and nobody else knows of it.
if ARGV[6] == '' then although_full() end
local generation = ensure_generation(KEYS[4], ARGV[7])
if redis.call('EXISTS', KEYS[1]) == 1 then
  local first = fields(KEYS[1], 'digest', 'queue', 'status', 'spec')
  if first[1] == digest and first[2] == queue then return {'exists', job_id, generation} end
  return {'taken', generation, first[2] or '', first[3] or '', string.sub(first[4] or '', 1, MOST_BYTES + 1)}
end

for i, wanted in pairs({[2] = 'zset', [3] = 'set', [5] = 'list'}) do make_way(KEYS[i], wanted) end
local at = now()
local outcome, entry, predecessor = 'created', key, nil
if key ~= '' then
  local other
  other, entry = job_of_key(queue, key)
  local other_job = other and 'podrelay:job:{' .. other .. '}'
  local found = other and fields(other_job, 'status', 'digest', 'acknowledged', 'cancel_by', 'forgotten', 'queue')
  if found and found[1] then
    local same = found[2] == digest
    local is_active = not is_final(found[1]) and not found[4]
    local is_untaken = found[1] == 'SUCCEEDED' and not found[3]
    if same and (is_active or is_untaken) then return {'attached', other, generation} end
    outcome = 'successor'
    predecessor = standing(other)
    if predecessor then redis.call('HSET', 'podrelay:job:{' .. predecessor .. '}', 'successor', job_id) end
    if is_active then
      -- Nobody waits for the other spec's result any more, and the two must not run side by side.
      redis.call('HSET', other_job, 'cancel_by', 'its successor ' .. job_id, 'cancel_at', text(at))
      redis.call('PUBLISH', 'podrelay:queue:' .. (found[6] or '') .. ':control', cjson.encode({cancel = other, by = 'its successor ' .. job_id}))
    end
  end
  redis.call('SET', ENTRY .. entry, job_id)
  if entry == key then redis.call('DEL', ENTRY .. scoped(queue, key)) end
end

redis.call('HSET', KEYS[1], 'spec', ARGV[3], 'digest', digest, 'queue', queue, 'status', 'QUEUED',
  'generation', generation, 'attempt', '0', 'epoch', '0', 'at:submitted', text(at), 'at:queued', text(at),
  'retention_s', ARGV[9], 'acknowledged_retention_s', ARGV[10], 'queue_timeout_s', ARGV[11])
if ARGV[12] ~= '' then redis.call('HSET', KEYS[1], 'namespace', ARGV[12]) end
if ARGV[13] ~= '' then redis.call('HSET', KEYS[1], NEEDED, ARGV[13]) end
if key ~= '' then redis.call('HSET', KEYS[1], 'key', entry) end
if predecessor then redis.call('HSET', KEYS[1], 'predecessor', predecessor) end
redis.call('ZADD', KEYS[2], text(at), job_id)
redis.call('SADD', KEYS[3], queue)
append_event(job_id, KEYS[1], ARGV[5], false)
if ARGV[6] ~= '' then redis.call('LPUSH', KEYS[5], ARGV[6]) end
return {outcome, job_id, generation}
