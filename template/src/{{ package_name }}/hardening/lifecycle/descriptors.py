"""File descriptor limit (`RLIMIT_NOFILE`): raised at start, and connections are bounded by what it allows.

A server that accepts more connections than it has descriptors for cannot reach its database, its Redis or its issuer.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from ..settings import HardeningSettings

log = structlog.get_logger()

# Standard streams, listener, event loop, Redis (64), issuer, telemetry, and what tools open besides.
OTHERS = 256


def most_connections(settings: HardeningSettings) -> int:
    """Raise the soft limit; return how many connections fit: `MCP_MAX_CONNECTIONS`, or fewer with a line."""
    reserved = OTHERS + settings.pool_max_size + settings.max_threads
    needed = settings.max_connections + reserved
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return settings.max_connections
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        # Some systems state a hard limit that they do not grant.
        allowed = soft
    if allowed >= needed:
        return settings.max_connections
    fitting = max(allowed - reserved, allowed // 2)
    log.warning("fewer connections than configured", setting="MCP_MAX_CONNECTIONS", limit=fitting, total=allowed)
    return fitting
