"""An MCP server, ready for production."""
