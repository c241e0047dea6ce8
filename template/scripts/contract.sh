#!/usr/bin/env bash
# Gate 2: what clients and models are told changes only with a review, and breaks only with a new version.
# Call it by `make contract BASE=origin/main`; without BASE it compares with the newest release before HEAD, a tag v1.2.3.
# A revision that cannot be read fails: that nothing can be seen does not mean that nothing has changed.
set -euo pipefail

fail() {
  echo "::error::Gate 2, contract: $*"
  exit 1
}

# To the summary of the run where there is one; standard output may be no file that can be opened by a name.
# shellcheck disable=SC2059 # the first argument is a format of ours
report() {
  if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then printf "$@" >> "$GITHUB_STEP_SUMMARY"; else printf "$@"; fi
}

hardening=$(echo src/*/hardening)
[ -d "$hardening" ] || fail "run this in the project's folder, where src/ is"
package=$(basename "$(dirname "$hardening")")
python -m "$package" schema check || fail "run make schema, look at the difference in schema/tools.json, and commit it"

shallow=$(git rev-parse --is-shallow-repository) || fail "git cannot read this repository, so there is nothing to compare with"
base=${BASE:-}
if [ -z "$base" ]; then
  [ "$shallow" = false ] || fail "in a shallow clone nobody knows what was released: run git fetch --unshallow --tags"
  [ "$(git config --get remote.origin.tagOpt || true)" != --no-tags ] ||
    fail "this clone leaves tags out, so nobody knows what was released: run git fetch --tags, or name a revision with BASE="
  git rev-parse --verify --quiet 'HEAD^{commit}' > /dev/null || fail "there is no commit yet"
  # A release comes after its candidates; a tag such as vendor-2020 is none.
  base=$(git -c versionsort.suffix=- -c versionsort.suffix=a -c versionsort.suffix=b -c versionsort.suffix=rc for-each-ref \
    --count=1 --sort=-version:refname --merged=HEAD --no-contains=HEAD --format='%(refname:short)' 'refs/tags/v[0-9]*')
  if [ -z "$base" ]; then
    # Below the root of a repository, tags may have a name before their number: weather/v1.2.3, weather-1.2.3.
    named=$(git for-each-ref --merged=HEAD~1 --sort=-creatordate --format='%(refname:short)' refs/tags 2> /dev/null |
      grep -E -m 1 '[-/@_]v?[0-9]+[.][0-9]' || true)
    [ -z "$(git rev-parse --show-prefix)" ] || [ -z "$named" ] ||
      fail "no tag v… here, and others that may be releases of this project: name the newest one, make contract BASE=$named"
    echo "::notice::Gate 2, contract: no tag v… before this commit, so nothing that was released can break"
    exit 0
  fi
fi

commit=$(git rev-parse --verify --quiet "$base^{commit}") ||
  fail "'$base' is no commit of this clone. Fetch it (git fetch origin $base; in a shallow clone git fetch --unshallow)," \
    "or compare with the newest release: make contract"
found=$(git ls-tree --name-only "$commit" -- schema/tools.json) || fail "git cannot read $base"
if [ -z "$found" ]; then
  echo "::notice::Gate 2, contract: $base has no schema/tools.json, so all of it is new"
  exit 0
fi

code=0
changes=$(python -m "$package" schema diff --against "$commit") || code=$?
case $code in
  0) report '## The contract\n\nNo tool has changed since %s.\n' "$base" ;;
  4) report '## The contract\n\nSince %s:\n\n%s\n' "$base" "$changes" ;;
  *) fail "the contract of $base cannot be read" ;;
esac
python -m "$package" schema check --against "$commit" ||
  fail "a change breaks clients: raise the version in pyproject.toml, or keep the old form working"
echo "Gate 2, contract: compared with $base; reviewed, and the version fits."
