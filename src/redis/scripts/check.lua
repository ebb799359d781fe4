#!lua flags=no-writes
-- Returns the first of some commands that the user of the connection may not run on a key, or nothing.
-- KEYS: a key such as those that are used later. It is neither read nor written.
-- ARGV: names of commands.
-- Time: O(number of commands).
for _, command in ipairs(ARGV) do
  if not redis.acl_check_cmd(command, KEYS[1]) then
    return command
  end
end
return false
