-- Keep a dead letter, and no more of the older ones than may be kept.
-- KEYS: dead letters (list, the newest first), their size (string: count, bytes)
-- ARGV: letter (JSON), how many are kept at most, how many bytes of them, how old one may be (seconds)
local most, most_bytes, age_s = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local count = redis.call('LPUSH', KEYS[1], ARGV[1])
if count > most then
  redis.call('LTRIM', KEYS[1], 0, most)
  count = most + 1
end
local known = redis.pcall('GET', KEYS[2])
local was, bytes = string.match(type(known) == 'string' and known or '', '^(%d+) (%d+)$')
if was and (tonumber(was) == count - 1) then
  bytes = tonumber(bytes) + #ARGV[1]
else
  -- Others have written to the list too: looked through once, one by one, since they may be of any size.
  bytes = 0
  for i = 0, count - 1 do
    bytes = bytes + #redis.call('LINDEX', KEYS[1], i)
    if bytes > most_bytes then
      redis.call('LTRIM', KEYS[1], 0, i)
      count = i + 1
      break
    end
  end
end
local function is_old(letter)
  local is_json, said = pcall(cjson.decode, letter)
  local at = is_json and type(said) == 'table' and tonumber(said.at)
  return at and at < now() - age_s
end
while count > 1 do
  local last = redis.call('LINDEX', KEYS[1], -1)
  if count <= most and bytes <= most_bytes and not is_old(last) then break end
  redis.call('RPOP', KEYS[1])
  count, bytes = count - 1, bytes - #last
end
redis.call('EXPIRE', KEYS[1], age_s)
redis.call('SET', KEYS[2], string.format('%d %d', count, bytes), 'EX', age_s)
return 'kept'
