#!/usr/bin/env bash
# One version everywhere: the tag's, pyproject.toml's and that of server.json.
set -euo pipefail

project=$(python3 -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
entry=$(jq --raw-output .version server.json)
if [ "$1" != "$project" ] || [ "$1" != "$entry" ]; then
  echo "::error::One version everywhere: the tag says $1, pyproject.toml $project, server.json $entry"
  exit 1
fi
