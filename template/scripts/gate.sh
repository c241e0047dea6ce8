#!/usr/bin/env bash
# Gate 3: look at the public endpoint as a client would, for up to GATE_SECONDS, and say what was seen.
# Needs MCP_PUBLIC_URL and MCP_PROBE_KEY. The exit code is that of the probe; 2 is that nobody could look.
# GATE_SCHEMA is the contract to compare with; GATE_ERA is `modern` for a server that refuses older clients.
set -euo pipefail

what=${1:-the new version}
bash "$(dirname "$0")/needs.sh" MCP_PROBE_KEY MCP_PUBLIC_URL || exit 2
python=$(bash "$(dirname "$0")/python.sh")
summary=${GITHUB_STEP_SUMMARY:-/dev/null}
seen=$(mktemp)
trap 'rm -f "$seen"' EXIT
arguments=("${MCP_PUBLIC_URL%/}/mcp" --wait "${GATE_SECONDS:-120}")
[ -z "${GATE_SCHEMA:-}" ] || arguments+=(--schema "$GATE_SCHEMA")
[ -z "${GATE_ERA:-}" ] || arguments+=(--era "$GATE_ERA")

code=0
"$python" src/*/hardening/probe.py "${arguments[@]}" > "$seen" || code=$?
cat "$seen"
case $code in
  0) said="serves" ;;
  2) said="was not looked at: the probe cannot run here" ;;
  3) said="refuses the credential: is MCP_PROBE_KEY the same on both sides?" ;;
  4) said="offers other tools than its schema/tools.json says" ;;
  *) said="does not serve clients" ;;
esac
{
  printf '## Gate 3: %s %s\n\n' "$what" "$said"
  sed 's/^/    /' "$seen"
} >> "$summary"
[ "$code" -eq 0 ] || echo "::error::Gate 3: $what $said"
exit "$code"
