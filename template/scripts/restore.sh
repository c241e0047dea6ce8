#!/usr/bin/env bash
# Brings a file of the template, at the project's version, that was deleted here or never came: restore.sh FILE
# FILE is a path in the project, or a pattern such as deploy/kubernetes/overlays/**. What is there stays as it is.
set -euo pipefail

file=${1#./}
file=${file#/}
[ -n "$file" ] || {
  echo "Name what to bring: make restore FILE=fly.toml" >&2
  exit 1
}
[ ! -e "$file" ] || {
  echo "$file is here already: to have it as the template has it, delete it first" >&2
  exit 1
}
seen() {
  git status --porcelain --untracked-files=all -- .
}
before=$(seen) || {
  echo "git cannot read this folder, so nobody would see what has come" >&2
  exit 1
}
uvx --from 'copier>=9.17.2,<10' copier recopy --quiet --defaults --vcs-ref=:current: --skip "/$file" \
  --exclude '*' --exclude "!/$file"
# What git ignores comes all the same, and a file that was deleted without git is as committed again.
if [ ! -e "$file" ] && [ "$before" = "$(seen)" ]; then
  echo "The template has no $file for the answers of this project" >&2
  exit 1
fi
git status --short --untracked-files=all
