#!/usr/bin/env bash
# One version everywhere: the tag's, pyproject.toml's and, where it is there, that of server.json.
set -euo pipefail

python=$(bash "$(dirname "$0")/python.sh")
project=$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
entry=$project
[ ! -f server.json ] || entry=$(jq --exit-status --raw-output .version server.json)
if [ "$1" != "$project" ] || [ "$1" != "$entry" ]; then
  echo "::error::One version everywhere: the tag says $1, pyproject.toml $project, server.json $entry"
  exit 1
fi
