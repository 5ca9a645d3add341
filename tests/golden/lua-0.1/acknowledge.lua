-- The caller has stored the result on its side: the next submit of the key makes a new job.
-- KEYS: job
-- ARGV: job id
-- Returns the status; missing; unreadable; or illegal (it has not ended)
local found = fields(KEYS[1], 'status', 'forgotten', 'queue', 'acknowledged')
if not found[1] or not found[3] then return redis.call('EXISTS', KEYS[1]) == 1 and 'unreadable' or 'missing' end
if not is_final(found[1]) then return 'illegal' end
if not found[4] then
  although_full()
  redis.call('HSET', KEYS[1], 'acknowledged', text(now()))
  if found[2] then forget(ARGV[1], KEYS[1], found[3], now()) end
end
return found[1]
