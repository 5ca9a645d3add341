-- The job's last step: its pod is gone (or kept and marked), nothing is left to do. Fenced.
-- KEYS: job
-- ARGV: job id, owner, epoch, queue
-- Returns applied, fenced, missing, or illegal (it has not ended)
local found = fields(KEYS[1], 'status', 'owner', 'epoch', 'forgotten')
if not found[1] then
  redis.pcall('ZREM', 'podrelay:queue:' .. ARGV[4] .. ':active', ARGV[1])
  return 'missing'
end
if found[4] then return 'applied' end
if found[2] ~= ARGV[2] or found[3] ~= ARGV[3] then return 'fenced' end
if not is_final(found[1]) then return 'illegal' end
although_full()
forget(ARGV[1], KEYS[1], ARGV[4], now())
return 'applied'
