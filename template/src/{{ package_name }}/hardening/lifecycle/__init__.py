"""Start in order, listen, drain at SIGTERM, exit."""
