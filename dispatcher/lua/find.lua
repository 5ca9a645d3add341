-- Find the job that a queue's key stands for.
-- KEYS: the key's entry (there may be another, see job_of_key)
-- ARGV: queue, key
-- Returns the job's id, '' where there is none
return (job_of_key(ARGV[1], ARGV[2])) or ''
