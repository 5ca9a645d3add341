-- The caller has stored the result on its side: the next submit of the key makes a new job.
-- KEYS: job
-- ARGV: job id
-- Returns the status; missing; or illegal (it has not ended)
local found = redis.call('HMGET', KEYS[1], 'status', 'forgotten', 'queue', 'acknowledged')
if not found[1] then return 'missing' end
if not is_final(found[1]) then return 'illegal' end
if not found[4] then
  although_full()
  redis.call('HSET', KEYS[1], 'acknowledged', text(now()))
  if found[2] then forget(ARGV[1], KEYS[1], found[3], now()) end
end
return found[1]
