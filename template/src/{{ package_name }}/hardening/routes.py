"""Paths, headers and method names that more than one room speaks of.

Sources: 2026-07-28 and 2025-11-25, Transports; RFC 9728, section 3.1 (metadata path).
"""

MCP_PATH = "/mcp"
LIVE_PATH = "/livez"
READY_PATH = "/readyz"
METRICS_PATH = "/metrics"
METADATA_PATH = f"/.well-known/oauth-protected-resource{MCP_PATH}"

SESSION_HEADER = b"mcp-session-id"

INITIALIZE = "initialize"
DISCOVER = "server/discover"
LISTEN = "subscriptions/listen"
TOOLS_LIST = "tools/list"
TOOLS_CALL = "tools/call"
