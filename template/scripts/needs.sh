#!/usr/bin/env bash
# Tell every variable that is missing, at once: bash needs.sh NAME…
set -euo pipefail

[ "$#" -gt 0 ] || {
  echo "::error::needs.sh: name the variables that have to be set"
  exit 2
}
missing=()
for name in "$@"; do
  [ -n "${!name:-}" ] || missing+=("$name")
done
if [ "${#missing[@]}" -gt 0 ]; then
  echo "::error::Set these in the environment of this workflow, as its first lines say: ${missing[*]}"
  exit 1
fi
