"""A server whose author reports to Sentry, or lets a library log by itself: not a test.

`REPORTS` is what sets it up: Python, run before the server is built.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated

import alias
from pydantic import Field

alias.install()

from hardening import HardeningSettings, harden, log, tool
from hardening.lifecycle.startup import serve

exec(os.environ["REPORTS"])  # noqa: S102 - the setup is what is tested


def look_up(text: str) -> None:
    """Fail, with the text in the message and in a local variable."""
    copy = f"no {text}"
    raise LookupError(copy)


@tool(read_only=True)
async def report(text: Annotated[str, Field(max_length=100, description="Any text.")]) -> str:
    """Log a text in each way there is, report a failure, and fail."""
    log.info("looked up %s", text)
    logging.getLogger("author").warning("looking up %s", text)
    logging.getLogger("author").error("looked up %s", text)
    warnings.warn(f"deprecated {text}", UserWarning, stacklevel=1)
    try:
        look_up(text)
    except LookupError as error:
        logging.getLogger("author").exception("failed")
        if sdk := sys.modules.get("sentry_sdk"):
            sdk.capture_exception(error)
        raise
    return text


if __name__ == "__main__":
    raise SystemExit(serve(HardeningSettings, lambda settings: harden(settings, tools=(report,))))
