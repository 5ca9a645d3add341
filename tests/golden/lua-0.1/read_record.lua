-- KEYS: job, ...
-- Returns each whole record (empty where there is none; a text where the key holds none).
local found = {}
for i, job in ipairs(KEYS) do found[i] = whole(job) end
return found
