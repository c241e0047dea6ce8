#!/usr/bin/env bash
# Look for credentials in every file that git tracks; call it by `make secrets`.
set -euo pipefail

here=$(dirname "$0")
files=$(mktemp)
trap 'rm -f "$files"' EXIT
git ls-files -z -- ':!uv.lock' ':!tests/hardening' > "$files" || {
  echo "git cannot list what is committed, so nothing was looked at" >&2
  exit 1
}
[ -s "$files" ] || {
  echo "Nothing is committed or staged yet, so nothing was looked at: run git add first" >&2
  exit 1
}
gone=$(git ls-files --deleted)
[ -z "$gone" ] || {
  echo "These files are committed or staged and are not here, so nobody has looked at them: git checkout or git rm them" >&2
  echo "$gone" >&2
  exit 1
}
xargs -0 bash "$here/npx.sh" --package secretlint@13.0.6 --package @secretlint/secretlint-rule-preset-recommend@13.0.7 \
  secretlint --no-glob --secretlintrc "$here/secretlint.json" < "$files"
