"""Where each metric of one server is found, and the route that Prometheus asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .auth import METRICS_PATH
from .errors import Answer
from .metrics import CONTENT_TYPE, Metrics
from .schema import canonical, tools_sha256

if TYPE_CHECKING:
    from .app import App
    from .context import Exchange
    from .server import HardenedServer


def schema_sha256(server: HardenedServer) -> str:
    """Return the digest of the tool contract that this process serves."""
    tools = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in server.listing]
    return tools_sha256(canonical(tools, {}, None)["tools"])


def open_metrics(server: HardenedServer, sha256: str) -> Metrics:
    """Return the metrics of a server; each call is counted from now on."""
    default = server.hardening.tool_timeout_seconds
    declared = {tool.name: tool.declaration for tool in server.declared.values()}
    return Metrics(
        version=server.version,
        schema_sha256=sha256,
        timeouts={name: said.timeout_seconds or default for name, said in declared.items()},
        streaming=[name for name, said in declared.items() if said.streams],
    )


def read_from(app: App) -> None:
    """Say where the values are that are read when Prometheus asks."""
    server = app.server
    app.metrics.read(
        in_flight=app.in_flight,
        oldest_call_seconds=server.deadlines.oldest_seconds,
        sessions=lambda: len(app.sessions.open),
        streams=lambda: app.streams.slots.total,
        draining=lambda: app.drain.unready,
        limits_degraded=lambda: app.limits.limiter.degraded,
        redis_errors=lambda: app.limits.limiter.redis_errors,
    )
    if server.database is not None:
        database = server.database
        database.observe = app.metrics.acquired
        app.metrics.read(
            pool_size=lambda: database.size, pool_idle=lambda: database.idle, pool_waiting=lambda: database.waiting
        )


class MetricsGuard:
    """Answers `/metrics`; authentication has let the probe pass, and nobody else."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    async def __call__(self, exchange: Exchange) -> Answer | None:
        """Answer Prometheus."""
        if exchange.path != METRICS_PATH:
            return None
        return Answer(200, "metrics", body=self.metrics.render(), content_type=CONTENT_TYPE)
