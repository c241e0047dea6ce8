"""One JSON-RPC message of either era, and the streams and sessions around it."""
