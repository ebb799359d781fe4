#!lua flags=no-writes
-- Finds a command that the user of the connection may not run on a key.
--
-- KEYS  a key such as those that are used later. It is neither read nor written.
-- ARGV  (name of a command)*
-- Reply the first such command, or nil
-- Cost  O(n).
for _, command in ipairs(ARGV) do
  if not redis.acl_check_cmd(command, KEYS[1]) then
    return command
  end
end
return false
