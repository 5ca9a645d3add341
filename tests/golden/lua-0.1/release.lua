-- Hand over: this worker lets go of these jobs. The queue's other workers are told in one message.
-- KEYS: control
-- ARGV: incarnation, job ids...
-- Returns how many were its own
local released = 0
although_full()
for i = 2, #ARGV do
  local job = 'podrelay:job:{' .. ARGV[i] .. '}'
  if fields(job, 'owner')[1] == ARGV[1] then
    redis.call('HSET', job, 'owner', '')
    released = released + 1
  end
end
redis.call('PUBLISH', KEYS[1], cjson.encode({released = ARGV[1]}))
return released
