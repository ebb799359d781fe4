#!/usr/bin/env bash
# The terminal view of the example `dashboard` shows its parts, and is refused without the token. Takes the folder of the
# built examples.
set -euo pipefail
folder=${1:-"$(dirname "$0")/../../target/release/examples"}
coproc program { exec "$folder/dashboard" --stdin --quiet --keys 400 --token secret; }
trap 'kill "$program_PID" 2> /dev/null || true' EXIT
read -r _ _ url <&"${program[0]}"
for _ in $(seq 100); do
  picture=$("$folder/top" --once "$url")
  if grep -q '400 of 400 are up' <<< "$picture" && grep -q '24 of 24 are up' <<< "$picture"; then break; fi
  sleep 0.1
done
grep -q '400 of 400 are up' <<< "$picture"
for part in 'registry backends' 'dispatcher jobs' 'server game' 'client to game' 'pacemaker to head office' 'group world'; do
  grep -q "$part" <<< "$picture"
done
if "$folder/top" --once "${url%\?*}" 2> /dev/null; then
  echo 'it was answered without a token' >&2
  exit 1
fi
echo "$picture"
