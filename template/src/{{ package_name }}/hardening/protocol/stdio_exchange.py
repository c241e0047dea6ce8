"""The Exchange of a message on standard input, so that guards, limits and log lines find what they find over HTTP.

Every message is from one local principal and has ids of its own; the era is that of the version which it names.
Source: 2026-07-28, `_meta` of requests.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Any

from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic_core import from_json

from ..exchange import UNNAMED_VERSION, Exchange, Principal
from .message import has_more_values

VERSION = "io.modelcontextprotocol/protocolVersion"
LOCAL = Principal("none", "stdio")


def exchange_of(text: bytes | None, most_values: int) -> Exchange:
    """Return what guards and log lines know a request by; nothing in it is trusted.

    Args:
        text: The message; None when it was too long.
        most_values: A message with more values is parsed neither here nor later.
    """
    version = ""
    if text is not None and not has_more_values(text, most_values):
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            version = str(from_json(text)["params"]["_meta"][VERSION])
    modern = version in MODERN_PROTOCOL_VERSIONS
    ids = secrets.token_hex(24)
    return Exchange(
        scope={"type": "stdio"},
        receive=_nothing,
        send=_nothing,
        request_id=ids[:16],
        trace_id=ids[16:],
        method="",
        path="",
        headers={},
        protocol_version=version[:32] if modern else UNNAMED_VERSION,
        era="modern" if modern else "legacy",
        principal=LOCAL,
        body=text,
    )


async def _nothing(*_: Any) -> Any:
    """Stand in for HTTP."""
