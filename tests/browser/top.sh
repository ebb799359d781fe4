#!/usr/bin/env bash
# The terminal view of the example `dashboard` shows its parts, is refused without the token, and gives the terminal back.
# Takes the folder of the built examples.
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
fails() { # what it says, arguments
  local said
  if said=$("$folder/top" "${@:2}" 2>&1 > /dev/null); then
    echo "no error: $*" >&2
    exit 1
  fi
  grep -q "$1" <<< "$said" || { echo "$said" >&2; exit 1; }
}
fails 'asks for its token' --once "${url%\?*}"
fails 'no terminal' "$url"
fails 'must begin with' nonsense
echo "$picture"

if ! command -v tmux > /dev/null; then
  if [ -n "${CI:-}" ]; then echo '`apt-get install tmux` gives a terminal' >&2; exit 1; fi
  echo 'NOT TESTED: no tmux'
  exit
fi
socket=top-$$
terminal() { tmux -L "$socket" -f /dev/null "$@"; }
trap 'kill "$program_PID" 2> /dev/null || true; terminal kill-server 2> /dev/null || true' EXIT
shows() {
  for _ in $(seq 200); do
    if terminal capture-pane -p | grep -q "$1"; then return; fi
    sleep 0.1
  done
  terminal capture-pane -p >&2
  echo "it does not show: $1" >&2
  exit 1
}
# The shell is there before and after.
terminal new-session -d -x 110 -y 12 "sh -c 'echo before; \"$folder/top\" \"$url\"; echo ended with \$?; sleep 1000'"
shows '400 of 400 are up'
shows '↓ 4 below'
terminal send-keys Down
shows '↑ 1 above'
terminal resize-window -x 110 -y 60
shows 'client to game'
kill "$program_PID"
shows 'connection lost'
port=${url#http://*:}
coproc again { exec "$folder/dashboard" --stdin --quiet --keys 300 --token secret --address "127.0.0.1:${port%%/*}"; }
trap 'kill "$again_PID" 2> /dev/null || true; terminal kill-server 2> /dev/null || true' EXIT
shows 'live   q ends'
terminal send-keys Home
shows '300 of 300 are up'
terminal send-keys C-c
shows 'ended with 0'
shows '^before'
