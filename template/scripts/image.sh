#!/usr/bin/env bash
# The image as it will run: refuses to start unconfigured, starts with a read-only root, answers, drains.
# Call it by `make boot IMAGE=…`; DATABASE_URL and REDIS_URL are handed on when they are set.
set -euo pipefail

engine=${ENGINE:-docker}
image=$1
name=image-check-$$
port=${IMAGE_CHECK_PORT:-18000}
python=$(bash "$(dirname "$0")/python.sh")
command -v "$engine" > /dev/null || {
  echo "::error::Image: $engine is missing: install it, or name another one: make boot ENGINE=podman"
  exit 2
}
"$engine" image inspect "$image" > /dev/null || {
  echo "::error::Image: $engine has no image $image: is the engine running, and was the image built? (make image)"
  exit 2
}
trap '"$engine" rm --force "$name" > /dev/null 2>&1 || true' EXIT

fail() {
  echo "::error::Image: $*"
  "$engine" logs "$name" 2>&1 | tail -n 20 || true
  exit 1
}
run() {
  "$engine" run --name "$name" --network host --read-only --tmpfs /tmp --cap-drop ALL \
    --security-opt no-new-privileges "$@"
}

code=0
run "$image" || code=$?
[ "$code" -eq 78 ] || fail "without settings it should refuse to start with exit code 78, and ended with $code"
"$engine" rm --force "$name" > /dev/null

MCP_PROBE_KEY=$("$python" -c 'import secrets; print(secrets.token_hex(32))')
export MCP_PROBE_KEY
MCP_API_KEYS="gate:$("$python" -c 'import secrets; print(secrets.token_hex(32))')"
export MCP_API_KEYS
options=(--env MCP_AUTH=api_key --env MCP_API_KEYS --env MCP_PROBE_KEY --env HOST=127.0.0.1 --env "PORT=$port"
  --env MCP_READINESS_DELAY_SECONDS=0)
[ -z "${DATABASE_URL:-}" ] || options+=(--env DATABASE_URL)
[ -z "${REDIS_URL:-}" ] || options+=(--env REDIS_URL)
run --detach "${options[@]}" "$image" > /dev/null

"$python" src/*/hardening/probe.py "http://127.0.0.1:$port/mcp" --wait 60 --schema schema/tools.json ||
  fail "it does not answer as the contract says"

"$engine" stop -t 60 "$name" > /dev/null
code=$("$engine" inspect --format '{{.State.ExitCode}}' "$name")
[ "$code" -eq 0 ] || fail "it should end with 0 after SIGTERM, and ended with $code"
echo "Image: refuses to start unconfigured, answers, drains."
