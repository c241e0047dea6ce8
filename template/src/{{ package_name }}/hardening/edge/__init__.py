"""HTTP before the caller is known: connection, Host and Origin, health, head, body, client IP."""
