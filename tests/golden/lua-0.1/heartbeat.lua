-- Renew a worker's lease and tell the queue that it lives.
-- KEYS: lease, workers, generation, queues
-- ARGV: incarnation, lease in milliseconds, what it says of itself (JSON object without last_seen), new generation,
--       queue, its message lists...
-- Returns {time, generation, whether the lease had still been there, Redis' life, since when its server runs or is the
-- primary ('' where no other was known), keys that were of another type and gave way}
local at = now()
local had = redis.call('EXISTS', KEYS[1])
although_full()
-- Celery's own keys too: one of another type keeps every worker from reading the queue.
local queue, celery = 'podrelay:queue:' .. ARGV[5], 'podrelay:celery:'
local wanted = {[KEYS[2]] = 'hash', [KEYS[3]] = 'string', [KEYS[4]] = 'set', ['podrelay:run'] = 'hash',
  [queue .. ':active'] = 'zset', [queue .. ':recent'] = 'zset',
  [queue .. ':dead'] = 'list', [queue .. ':dead:size'] = 'string',
  [celery .. 'unacked'] = 'hash', [celery .. 'unacked_index'] = 'zset', [celery .. 'unacked_mutex'] = 'string',
  [celery .. '_kombu.binding.' .. ARGV[5]] = 'set', [celery .. '_kombu.binding_permanent.' .. ARGV[5]] = 'set'}
for i = 6, #ARGV do wanted[ARGV[i]] = 'list' end
local gave_way = {}
for key, kind in pairs(wanted) do
  if make_way(key, kind) then gave_way[#gave_way + 1] = key end
end
redis.call('SET', KEYS[1], text(at), 'PX', ARGV[2])
-- Not through cjson, which writes an empty list as an empty object.
local said = string.match(ARGV[3], '^(.*)}%s*$')
local comma = string.find(said, '{%s*$') and '' or ','
redis.call('HSET', KEYS[2], ARGV[1], said .. comma .. '"last_seen":' .. text(at) .. '}')
redis.call('SADD', KEYS[4], ARGV[5])
local generation = ensure_generation(KEYS[3], ARGV[4])
-- The dead are kept, but each restart adds one: a starting worker drops all but the last 32, and so does anybody where
-- there are more entries than workers ever are.
if had == 0 or redis.call('HLEN', KEYS[2]) > 1000 then
  local dead, workers = {}, redis.call('HGETALL', KEYS[2])
  for i = 1, #workers, 2 do
    if redis.call('EXISTS', 'podrelay:worker:' .. workers[i]) == 0 then
      dead[#dead + 1] = {workers[i], said_by(workers[i + 1]).last_seen}
    end
  end
  table.sort(dead, function(a, b) return a[2] > b[2] end)
  for i = 33, #dead do redis.call('HDEL', KEYS[2], dead[i][1]) end
end
-- Another run than the one that is kept: it was restarted, or another server took its place.
local run = string.match(life(), ' (%w*)$')
local known = redis.call('HMGET', 'podrelay:run', 'id', 'since')
-- One that is yet to come was told by another clock, or by somebody else: it would hold up all launches until then.
local since = seconds(known[2])
if since and since > at then
  since = at
  redis.call('HSET', 'podrelay:run', 'since', text(at))
end
since = since and text(since) or ''
if known[1] ~= run then
  since = known[1] and text(at) or ''
  redis.call('HSET', 'podrelay:run', 'id', run, 'since', since)
end
return {text(at), generation, had, life(), since, gave_way}
