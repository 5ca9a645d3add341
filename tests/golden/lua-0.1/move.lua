-- Change a job's record and tell it, fenced by owner and epoch.
-- KEYS: job
-- ARGV: job id, owner, epoch, step (unique: a repeated step is not carried out twice), the owner's step before it
--       ('*' for any), statuses it may start from (' A B ', '' for any), new status ('' to keep), event ('' for none),
--       how many fields the owner knows to be there, these (field, value, ...), then field, value, ... ('' deletes)
-- Returns {outcome, who asked to cancel, status, time}: applied, fenced, missing, rolled_back (the owner's claim, its
-- step before or a field that it knows are not there: Redis has lost them), illegal
local job_id, target, event = ARGV[1], ARGV[7], ARGV[8]
local found = fields(KEYS[1], 'status', 'owner', 'epoch', 'last_step', 'cancel_by')
local status = found[1]
if not status then return {'missing', '', '', '0'} end
local at = now()
local function reply(outcome) return {outcome, found[5] or '', status, text(at)} end
if (seconds(found[3]) or 0) < tonumber(ARGV[3]) then return reply('rolled_back') end
if found[2] ~= ARGV[2] or found[3] ~= ARGV[3] then return reply('fenced') end
if found[4] == ARGV[4] then return reply('applied') end
if ARGV[5] ~= '*' and ARGV[5] ~= (found[4] or '') then return reply('rolled_back') end
local changes = 10 + 2 * tonumber(ARGV[9])
for i = 10, changes - 1, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then return reply('rolled_back') end
end
if ARGV[6] ~= '' and not string.find(ARGV[6], ' ' .. status .. ' ', 1, true) then return reply('illegal') end

although_full()
redis.call('HSET', KEYS[1], 'last_step', ARGV[4])
for i = changes, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i])
  else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
if target ~= '' and target ~= status then
  redis.call('HSET', KEYS[1], 'status', target, 'at:' .. string.lower(target), text(at))
  if target == 'QUEUED' then redis.call('HDEL', KEYS[1], 'at:starting', 'at:running') end
  status = target
end
if event ~= '' then append_event(job_id, KEYS[1], event, is_final(target)) end
return reply('applied')
