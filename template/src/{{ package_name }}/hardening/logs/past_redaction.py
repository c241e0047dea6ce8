"""Warns of what sends log records, errors or spans past the redaction: handlers of libraries, Sentry, other tracers.

What is found is named in one line, and goes on: whoever has set it up decides. Looked for at the start,
when the author's code and state are there, and by each record of a logger; nothing is imported for it.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

log = structlog.get_logger()

OURS = __name__.partition(".")[0]
# What Sentry sends unless told otherwise: local variables, arguments of tools, queries, texts of log lines.
SENTRY = ("include_local_variables", "default_integrations", "auto_enabling_integrations", "max_breadcrumbs")
# The command `opentelemetry-instrument`, and each of its instrumentations.
INSTRUMENTED = "opentelemetry.instrumentation"

_told: set[str] = set()


def warn() -> None:
    """Write a line for each thing that is there: the class of a handler, or a package."""
    others = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    _tell(handlers(logging.root, *others))
    if _sentry_sends_values():
        _tell(["sentry_sdk"])
    if any(name.startswith(INSTRUMENTED) for name in list(sys.modules)):
        _tell([INSTRUMENTED])


def warn_of_handlers(name: str) -> None:
    """Write a line for each handler that gets what is logged to the logger of this name."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        _tell(handlers(logger))
        logger = logger.parent


def _tell(kinds: Iterable[str]) -> None:
    for kind in kinds:
        if kind not in _told:
            _told.add(kind)
            log.warning("reported past the redaction", kind=kind)


def handlers(*loggers: logging.Logger) -> Iterator[str]:
    """Return the classes of handlers that are not this package's."""
    for logger in loggers:
        for handler in logger.handlers:
            kind = type(handler)
            if kind is not logging.NullHandler and kind.__module__.partition(".")[0] != OURS:
                yield f"{kind.__module__}.{kind.__qualname__}"


def _sentry_sends_values() -> bool:
    sdk: Any = sys.modules.get("sentry_sdk")
    if sdk is None or not sdk.is_initialized():
        return False
    options = sdk.get_client().options
    return any(options.get(name) for name in SENTRY) or options.get("before_send") is None
