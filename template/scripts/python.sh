#!/usr/bin/env bash
# Print the path of a Python that can run the scripts: the project's own, or that of the machine from 3.11 on.
set -euo pipefail

for python in .venv/bin/python python3 python; do
  if found=$(command -v "$python") && "$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
    echo "$found"
    exit 0
  fi
done
echo "This needs Python 3.11 or newer, and here is $(python3 --version 2>&1 || true): run make setup, which brings one" >&2
exit 2
