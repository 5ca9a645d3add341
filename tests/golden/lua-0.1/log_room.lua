-- ARGV: limit of Redis' memory in bytes (0: none was set)
-- Returns {bytes of log that fit, the limit they count against (0: there is none)}
local room, limit = room_for_log(tonumber(ARGV[1]))
return {string.format('%.0f', room), string.format('%.0f', limit)}
