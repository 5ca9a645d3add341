-- Append one chunk of a container's log (or the mark of a gap), fenced and exact.
-- KEYS: job, log, room
-- ARGV: job id, owner, epoch, checkpoint field, start, checkpoint after this chunk, limit of kept bytes,
--       limit of Redis' memory in bytes (0: none was set), then the entry's fields and values; the data is the last
-- Returns {outcome, who asked to cancel, checkpoint or entry id}: applied, fenced, missing (also where Redis has lost the
-- owner's claim), final, mismatch, full
local found = fields(KEYS[1], 'status', 'owner', 'epoch', 'cancel_by', ARGV[4], 'log_kept')
local cancel = found[4] or ''
if not found[1] or (seconds(found[3]) or 0) < tonumber(ARGV[3]) then return {'missing', '', ''} end
if found[2] ~= ARGV[2] or found[3] ~= ARGV[3] then return {'fenced', cancel, ''} end
local checkpoint = found[5] and is_checkpoint(found[5], ARGV[4]) and found[5] or '0'
-- This very chunk was the last one (its reply was lost). But a gap of unknown length moves nothing: the record notes it.
local gap_told = ARGV[#ARGV - 1] == 'g' and 'gap:' .. ARGV[4]
local is_repeated = not gap_told or redis.call('HGET', KEYS[1], gap_told) == checkpoint
if checkpoint == ARGV[6] and is_repeated then return {'applied', cancel, ''} end
if is_final(found[1]) then return {'final', cancel, ''} end
if string.match(checkpoint, '^%d+') ~= ARGV[5] then return {'mismatch', cancel, checkpoint == '0' and '' or checkpoint} end

-- Half the room that there is may be filled before anybody looks again, and for a second at most: others fill it too.
if gap_told then although_full()
else
  local size = #ARGV[#ARGV] + 500
  local room_left = string_at(KEYS[3]) or ''
  if not is_count(room_left) or tonumber(room_left) < size then
    local room = math.floor(room_for_log(tonumber(ARGV[8])) / 2)
    if room < size then return {'full', cancel, ''} end
    redis.call('SET', KEYS[3], string.format('%.0f', room), 'PX', 1000)
  end
  redis.call('DECRBY', KEYS[3], size)
end

local entry = {}
for i = 9, #ARGV do entry[#entry + 1] = ARGV[i] end
local id = append(KEYS[2], unpack(entry))
local kept = (seconds(found[6]) or 0) + #ARGV[#ARGV]
local limit = tonumber(ARGV[7])
-- At most so many at once; the next chunk goes on, should one be larger than all of these.
for _ = 1, 500 do
  local oldest = kept > limit and redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  if not oldest or oldest[1] == id then break end
  redis.call('XDEL', KEYS[2], oldest[1])
  kept = kept - #oldest[2][#oldest[2]]
end
redis.call('HSET', KEYS[1], ARGV[4], ARGV[6], 'log_end', id, 'log_kept', tostring(kept))
if gap_told then redis.call('HSET', KEYS[1], gap_told, ARGV[6]) end
ring(ARGV[1])
return {'applied', cancel, id}
