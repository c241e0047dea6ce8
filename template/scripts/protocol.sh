#!/usr/bin/env bash
# Gate 1: the server as it is started in production, asked by the probe as clients of both eras would.
# Call it by `make protocol`, which starts a database where the project needs one and DATABASE_URL is not set.
set -euo pipefail

package=$(basename "$(dirname src/*/hardening)")
log=$(mktemp)
server=
finish() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  rm -f "$log"
}
trap finish EXIT

fail() {
  echo "::error::Gate 1, protocol: $*"
  echo "The last lines of the server's log:"
  tail -n 20 "$log"
  exit 1
}

MCP_PROBE_KEY=$(python -c 'import secrets; print(secrets.token_hex(32))')
MCP_API_KEYS="gate:$(python -c 'import secrets; print(secrets.token_hex(32))')"
export MCP_PROBE_KEY MCP_API_KEYS MCP_AUTH=api_key
export HOST=127.0.0.1 PORT=0 MCP_LOG_FORMAT=json MCP_READINESS_DELAY_SECONDS=0

python -m "$package" serve 2> "$log" &
server=$!

port=
patience=${GATE_START_SECONDS:-30}
for _ in $(seq $((patience * 5))); do
  port=$(sed -n '/"msg": *"started"/s/.*"port": *\([0-9]*\).*/\1/p' "$log")
  [ -z "$port" ] || break
  kill -0 "$server" 2>/dev/null || fail "the server ended while it started"
  sleep 0.2
done
hint=
[ -s "$log" ] || hint=", and has written nothing: is there room in ${TMPDIR:-/tmp}?"
[ -n "$port" ] || fail "the server was not ready within $patience seconds$hint"
url="http://127.0.0.1:$port/mcp"

code=0
python -m "$package" probe "$url" --schema schema/tools.json || code=$?
case $code in
  0) ;;
  3) fail "the server refuses its own probe key" ;;
  4) fail "the running server does not offer what schema/tools.json says" ;;
  *) fail "the server does not speak the protocol as the probe expects (exit code $code)" ;;
esac

code=0
MCP_PROBE_KEY=not-the-key python -m "$package" probe "$url" > /dev/null || code=$?
[ "$code" -eq 3 ] || fail "a wrong key should be refused (exit code 3), and the probe ended with $code"

kill -TERM "$server"
code=0
wait "$server" || code=$?
server=
[ "$code" -eq 0 ] || fail "the server ended with $code after SIGTERM, and should drain and end with 0"
echo "Gate 1, protocol: both eras answer, a wrong key is refused, SIGTERM drains."
