"""Call log: one line and one count for each call of a tool, without its arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from ..exchange import current

if TYPE_CHECKING:
    from ..exchange import Exchange
    from ..telemetry.metrics import Metrics

log = structlog.get_logger()

OK = "ok"
CANCELLED = "cancelled"


def log_call(tool: str, outcome: str, seconds: float, exchange: Exchange | None, metrics: Metrics | None) -> None:
    """Write the line of a call, and count it.

    Args:
        tool: Name of a declared tool.
        outcome: `ok`, `cancelled`, or the kind of failure.
        seconds: How long it took.
        exchange: The request that it was part of.
        metrics: Where it is counted.
    """
    ended = outcome if outcome in {OK, CANCELLED} else "error"
    code = None if outcome == OK else outcome
    sent = exchange.notifications_sent if exchange else 0
    log.info(
        "tool call",
        tool_name=tool,
        duration_ms=round(seconds * 1000, 1),
        outcome=ended,
        error_code=code,
        notifications_sent=sent,
    )
    mark_logged(exchange)
    if metrics is not None:
        asked = exchange is not None and exchange.meta.get("progressToken") is not None
        metrics.observe_call(tool, ended, code, seconds, sent, progress_requested=asked)


def log_other(kind: str, name: str, outcome: str, seconds: float) -> None:
    """Write the line of a prompt, a resource or a completion.

    Args:
        kind: Which of them.
        name: Name of a declared prompt; an address is its caller's, and is not written.
        outcome: As for a tool.
        seconds: How long it took.
    """
    ended = outcome if outcome in {OK, CANCELLED} else "error"
    code, took = None if outcome == OK else outcome, round(seconds * 1000, 1)
    mark_logged(current.get())
    if kind == "prompt":
        log.info("prompt call", prompt_name=name, duration_ms=took, outcome=ended, error_code=code)
    elif kind == "resource":
        log.info("resource read", duration_ms=took, outcome=ended, error_code=code)
    else:
        log.info("completion call", duration_ms=took, outcome=ended, error_code=code)


def mark_logged(exchange: Exchange | None) -> None:
    """Note that a line has told how the request ended: the access log has none for it."""
    if exchange is not None:
        exchange.logged = True
