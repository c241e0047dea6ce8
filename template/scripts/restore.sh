#!/usr/bin/env bash
# Brings a file of the template, at the project's version, that was deleted here or never came: restore.sh FILE
# FILE is a path in the project, or a pattern such as deploy/kubernetes/overlays/**. What is there stays as it is.
set -euo pipefail

file=${1#/}
[ -n "$file" ] || {
  echo "Name what to bring: make restore FILE=fly.toml" >&2
  exit 1
}
[ ! -e "$file" ] || {
  echo "$file is here already: to have it as the template has it, delete it first" >&2
  exit 1
}
before=$(git ls-files --others --exclude-standard)
uvx --from 'copier>=9.17.2,<10' copier recopy --quiet --defaults --vcs-ref=:current: --skip "/$file" \
  --exclude '*' --exclude "!/$file"
if [ "$before" = "$(git ls-files --others --exclude-standard)" ]; then
  echo "The template has no $file for the answers of this project" >&2
  exit 1
fi
git status --short --untracked-files=all
