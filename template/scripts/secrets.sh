#!/usr/bin/env bash
# Look for credentials in every file that git tracks; call it by `make secrets`.
set -euo pipefail

here=$(dirname "$0")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git ls-files -z -- ':!uv.lock' ':!tests/hardening' > "$scratch/listed" || {
  echo "git cannot list what is committed, so nothing was looked at" >&2
  exit 1
}
# Of a link git has the name that it points to, and of a submodule a number. No name is an option with a dot before it.
gone=
while IFS= read -r -d '' file; do
  if [ -L "$file" ] || [ -d "$file" ]; then continue; fi
  if [ -f "$file" ]; then printf './%s\0' "$file"; else gone="$gone${gone:+, }$file"; fi
done < "$scratch/listed" > "$scratch/files"
[ -s "$scratch/listed" ] || {
  echo "Nothing is committed or staged yet, so nothing was looked at: run git add first" >&2
  exit 1
}
[ -z "$gone" ] || {
  echo "These files are committed or staged and are not here, so nobody has looked at them: git checkout or git rm them" >&2
  echo "$gone" >&2
  exit 1
}
# Committed is committed: also what .gitignore names, such as an .env that was added by force.
xargs -0 bash "$here/npx.sh" --package secretlint@13.0.6 --package @secretlint/secretlint-rule-preset-recommend@13.0.7 \
  secretlint --no-glob --no-gitignore --secretlintrc "$here/secretlint.json" < "$scratch/files"
