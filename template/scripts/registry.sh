#!/usr/bin/env bash
# Publish server.json in the MCP registry, once per version, with the identity of this workflow.
# The name must be io.github.<owner>/…: only that can be proven without a key of yours.
set -euo pipefail

registry=${REGISTRY_URL:-https://registry.modelcontextprotocol.io}
fail() {
  echo "::error::Registry: $*"
  exit 1
}
ask() {
  curl --silent --show-error --fail-with-body --max-time 60 --header 'Content-Type: application/json' "$@"
}

[ -f server.json ] || fail "there is no server.json, so there is nothing to publish: set MCP_REGISTRY to something else"
python=$(bash "$(dirname "$0")/python.sh")
name=$(jq --raw-output .name server.json)
version=$(jq --raw-output .version server.json)
project=$("$python" -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
[ "$version" = "$project" ] || fail "server.json says version $version, pyproject.toml $project"
jq --exit-status --arg url "${MCP_PUBLIC_URL%/}/mcp" 'any(.remotes[]; .url == $url)' server.json > /dev/null ||
  fail "no remote in server.json is ${MCP_PUBLIC_URL%/}/mcp, which is what the gate looked at"
[[ $name == io.github.* ]] || fail "$name is no name of GitHub's: publish it yourself, with mcp-publisher"

path="$registry/v0.1/servers/$(jq --raw-output '.name | @uri' server.json)/versions/$(jq --raw-output '.version | @uri' server.json)"
if curl --silent --fail --max-time 60 --output /dev/null "$path"; then
  echo "::notice::Registry: $name $version is published already"
  exit 0
fi

identity=$(ask --header "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \
  "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=$registry" | jq --raw-output .value)
token=$(jq --null-input --arg token "$identity" '{oidc_token: $token}' |
  ask --data @- "$registry/v0.1/auth/github-oidc" | jq --raw-output .registry_token)
# The token goes in by standard input: what is on a command line can be read by others.
printf 'header = "Authorization: Bearer %s"\n' "$token" |
  ask --config - --data @server.json "$registry/v0.1/publish" > /dev/null || fail "$name $version was refused"
echo "Registry: $name $version is published."
