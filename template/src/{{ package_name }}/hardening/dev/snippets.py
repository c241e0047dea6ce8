"""Client configuration to paste: Claude Code, VS Code, Cursor, Claude Desktop, the Inspector and the probe.

Each names this server's address and key, or the command that starts it without a network.
"""

from __future__ import annotations

import json
import shlex
import sys


def snippets(name: str, url: str, key: str, probe_key: str) -> str:
    """Return what to paste into the usual clients, and into another terminal."""
    header = f"Authorization: Bearer {key}"
    cursor = {"mcpServers": {name: {"url": url, "headers": {"Authorization": f"Bearer {key}"}}}}
    code = {"servers": {name: {"type": "http", "url": url, "headers": {"Authorization": f"Bearer {key}"}}}}
    return f"""
{name} serves {url}
Key: {key}

Claude Code:
  claude mcp add --transport http {name} {url} --header "{header}"

VS Code (.vscode/mcp.json):
  {json.dumps(code)}

Cursor (.cursor/mcp.json):
  {json.dumps(cursor)}

Inspector:
  npx @modelcontextprotocol/inspector --cli {url} --transport http --method tools/list --header "{header}"

Probe:
  MCP_PROBE_KEY={shlex.quote(probe_key)} make probe URL={url}

Ctrl-C ends everything.

"""


def stdio_snippets(name: str, package: str, database_url: str | None) -> str:
    """Return what to paste into clients on this machine that start the server themselves."""
    command = {"command": sys.executable, "args": ["-m", package, "stdio"]}
    # The one that runs here ends with this command; a client needs one that stays.
    env = {"env": {"DATABASE_URL": database_url}} if database_url else {}
    code = {"servers": {name: {"type": "stdio", **command, **env}}}
    given = f"--env DATABASE_URL={shlex.quote(database_url)} " if database_url else ""
    return f"""Without a network, for a client that starts the server itself:

Claude Code:
  claude mcp add {given}{name} -- {shlex.quote(sys.executable)} -m {package} stdio

Claude Desktop (claude_desktop_config.json), Cursor (.cursor/mcp.json):
  {json.dumps({"mcpServers": {name: {**command, **env}}})}

VS Code (.vscode/mcp.json):
  {json.dumps(code)}

"""
