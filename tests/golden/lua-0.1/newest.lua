-- KEYS: an index of jobs
-- ARGV: how many
-- Returns the newest ids; or, where the key is no index, why (a text)
local found = redis.pcall('ZREVRANGE', KEYS[1], 0, ARGV[1] - 1)
return found.err or found
