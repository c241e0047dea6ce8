"""Chooses where rate limits are counted: in this process, or in Redis (`REDIS_URL`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .memory import TokenBuckets

if TYPE_CHECKING:
    from ..settings import HardeningSettings
    from .model import Limiter


def open_limiter(settings: HardeningSettings) -> Limiter:
    """Return the limiter that the settings ask for; it connects with the first request."""
    local = TokenBuckets(settings.rate_max_keys)
    if settings.redis_url is None:
        return local
    from .redis import RedisLimiter  # a start without Redis need not wait for its client

    return RedisLimiter(
        settings.redis_url.get_secret_value(),
        # Two servers, or two deployments of one, may use the same Redis.
        f"{__name__.partition('.')[0]} {settings.public_url}",
        local,
        replicas=settings.replicas,
        timeout_seconds=settings.redis_timeout_seconds,
    )
