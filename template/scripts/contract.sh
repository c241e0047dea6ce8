#!/usr/bin/env bash
# Gate 2: what clients and models are told changes only with a review, and breaks only with a new version.
# BASE is the revision to compare with; call it by `make contract BASE=origin/main`.
set -euo pipefail

package=$(basename "$(dirname src/*/hardening)")
summary=${GITHUB_STEP_SUMMARY:-/dev/stdout}
fail() {
  echo "::error::Gate 2, contract: $*"
  exit 1
}

python -m "$package" schema check || fail "run make schema, look at the difference in schema/tools.json, and commit it"

base=${BASE:-}
if [ -z "${base//0/}" ] || ! git cat-file -e "$base:schema/tools.json" 2>/dev/null; then
  echo "::notice::Gate 2, contract: there is no earlier contract to compare with"
  exit 0
fi

code=0
changes=$(python -m "$package" schema diff --against "$base") || code=$?
case $code in
  0) printf '## The contract\n\nNo tool has changed.\n' >> "$summary" ;;
  4) printf '## The contract\n\n%s\n' "$changes" >> "$summary" ;;
  *) fail "the contract of $base cannot be read" ;;
esac
python -m "$package" schema check --against "$base" ||
  fail "a change breaks clients: raise the version in pyproject.toml, or keep the old form working"
echo "Gate 2, contract: reviewed, and the version fits."
