#!/usr/bin/env bash
# Merges the newest version of the template into the working tree; VERSION is another one to go to.
# An edit in a file that the template has moved would be lost without a word, so this stops before that;
# EDITS=carry brings such edits over, in three commits, and EDITS=lose goes on without them.
# It fails when the update has left conflicts, and names their files; when it was stopped, it says how to go back.
set -euo pipefail

# Files that git was told not to show would be taken for none, and be overwritten or deleted.
# A hook that refuses one of three commits would leave the project half-way: checks come with what a person commits.
number=${GIT_CONFIG_COUNT:-0}
# A blank at the end of a line would make git refuse all edits at once, and Copier go on without them.
for setting in status.showUntrackedFiles=all core.safecrlf=false core.hooksPath=/dev/null merge.renames=true \
  apply.whitespace=nowarn; do
  export "GIT_CONFIG_KEY_$number=${setting%%=*}" "GIT_CONFIG_VALUE_$number=${setting#*=}"
  number=$((number + 1))
done
export GIT_CONFIG_COUNT=$number

copier() {
  uvx --from 'copier>=9.17.2,<10' copier "$@"
}
fail() {
  echo "$*" >&2
  exit 1
}
update() {
  if [ -n "${VERSION:-}" ]; then
    copier update --skip-answered --context-lines 100000 --vcs-ref "$VERSION"
  else
    copier update --skip-answered --context-lines 100000
  fi
  conflicts=$(git diff --name-only --diff-filter=U --relative) || fail "git cannot look for conflicts"
}

uncommitted=$(git status --porcelain .) ||
  fail "git cannot read this folder, so nothing could be taken back: git init -b main && git add -A && git commit -m Start"
[ -z "$uncommitted" ] || fail "Commit everything first, new files too: git keeps what an update changes, and takes it back"
# Nothing is shown of a file that git was told not to look at, so an edit of it would be overwritten.
unseen=$(git ls-files -v . | sed -n 's/^[a-zS] /  /p')
[ -z "$unseen" ] || fail "Git was told not to look at these files, so an update would overwrite them unseen. To let it look:
git update-index --no-skip-worktree --no-assume-unchanged FILE, or git sparse-checkout disable
$unseen"
before=$(git rev-parse --verify --quiet HEAD) || fail "There is no commit yet: git add -A && git commit -m Start"
stopped() {
  if [ "$(git rev-parse HEAD)" != "$before" ] || [ -n "$(git status --porcelain .)" ]; then
    echo "Stopped half-way: commit nothing of it. To go back to where you were:" >&2
    echo "  git reset --soft $before && git restore --source=HEAD --staged --worktree . && git clean --force -d ." >&2
  fi
}

moved=
[ "${EDITS:-}" = lose ] || moved=$(bash "$(dirname "$0")/drift.sh" --moved)
if [ -z "$moved" ]; then
  trap stopped EXIT
  update
  trap - EXIT
  [ -z "$conflicts" ] || fail "Both sides have changed the same lines: decide on one side of each conflict, and git add these files:
$conflicts"
  exit 0
fi
if [ "${EDITS:-}" != carry ]; then
  echo "These files of the template were edited here, and the new version has moved or dropped them:" >&2
  while IFS= read -r file; do echo "  $file" >&2; done <<< "$moved"
  fail "The update would lose the edits. To carry them over, in three commits: make update EDITS=carry
To go on without them: make update EDITS=lose"
fi

trap stopped EXIT
copier recopy --quiet --defaults --overwrite --vcs-ref=:current:
# What was deleted here stays deleted, and what is yours in shared files stays.
git clean --quiet --force -d .
for shared in pyproject.toml .gitattributes; do
  if git cat-file -e "HEAD:./$shared" 2> /dev/null; then git checkout --quiet HEAD -- "$shared"; fi
done
git add --all .
git commit --quiet --message "Set edits in files of the template aside"
update
trap - EXIT
[ -z "$conflicts" ] || fail "Decide on one side of each conflict, and commit the update. Then: git revert --no-edit HEAD~1"
git add --all .
git commit --quiet --message "Update the template"
# Git follows files that have moved.
git revert --no-edit HEAD~1 > /dev/null ||
  fail "An edit meets a change of the template: decide in the files that git status names, git add them, and git revert --continue"
echo "The edits are in the files' new places: git show HEAD"
