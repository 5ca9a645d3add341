-- KEYS: any, ...
-- Returns for each whether it is there.
local found = {}
for i, key in ipairs(KEYS) do found[i] = redis.call('EXISTS', key) end
return found
