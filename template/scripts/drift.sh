#!/usr/bin/env bash
# Renders the project again at its version, and shows where files of the template were edited here.
# `--moved` names the edited files that the newest version (or VERSION) has at another place, or no more.
set -euo pipefail

copier() {
  uvx --from 'copier>=9.17.2,<10' copier "$@"
}
# What a person has set for commits of their own is not meant for those in the scratch folder.
number=${GIT_CONFIG_COUNT:-0}
for setting in core.safecrlf=false commit.gpgsign=false core.hooksPath=/dev/null user.name=drift user.email=drift@localhost; do
  export "GIT_CONFIG_KEY_$number=${setting%%=*}" "GIT_CONFIG_VALUE_$number=${setting#*=}"
  number=$((number + 1))
done
export GIT_CONFIG_COUNT=$number
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE

git rev-parse --is-inside-work-tree > /dev/null || {
  echo "git cannot read this folder, so nobody knows what was edited" >&2
  exit 1
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/now" "$scratch/next"

git ls-files -z --cached --others --exclude-standard > "$scratch/files"
while IFS= read -r -d '' file; do
  [ -f "$file" ] || continue
  to=$scratch/now/$file
  [ -d "${to%/*}" ] || mkdir -p "${to%/*}"
  cp "$file" "$to"
done < "$scratch/files"
cp .copier-answers.yml "$scratch/next/"

commit() {
  git init --quiet . && git add --all --force . && git commit --quiet --message "$1"
}
cd "$scratch/now"
commit "As it is"
copier recopy --quiet --defaults --overwrite --vcs-ref=:current:
edits=(git diff -R --diff-filter=M)
ours=(-- . ':!pyproject.toml' ':!.gitattributes' ':!.copier-answers.yml')
if [ "${1:-}" != --moved ]; then
  "${edits[@]}" --stat=200,160 "${ours[@]}"
  exit 0
fi
"${edits[@]}" --name-only "${ours[@]}" > "$scratch/edited"
[ -s "$scratch/edited" ] || exit 0
cd "$scratch/next"
commit "The answers"
if [ -n "${VERSION:-}" ]; then
  copier recopy --quiet --defaults --overwrite --vcs-ref "$VERSION"
else
  copier recopy --quiet --defaults --overwrite
fi
while IFS= read -r file; do
  [ -f "$file" ] || echo "$file"
done < "$scratch/edited"
