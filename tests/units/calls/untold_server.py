"""A server whose tool and prompt raise what cannot be told: not a test."""

from __future__ import annotations

import asyncio
from traceback import walk_tb
from typing import TYPE_CHECKING, Annotated

import alias
from mcp import MCPError
from mcp.server.mcpserver.exceptions import ToolError as SdkToolError
from pydantic import Field

alias.install()

from hardening import Context, HardeningSettings, errors, harden, tool
from hardening.lifecycle.startup import serve

if TYPE_CHECKING:
    from collections.abc import Callable

    from hardening import HardenedServer


class ForgotItsBaseError(errors.NotFound):
    """A failure of the author's whose base was never told of it."""

    def __init__(self) -> None:
        Exception.__init__(self, "secret")


class LazyError(errors.NotFound):
    """A failure of the author's with a sentence that is made when it is read."""

    advice = property(lambda _: 1 / 0, lambda *_: None)  # type: ignore[assignment]


class TextError(SdkToolError):
    """One of the SDK's whose text cannot be read."""

    def __str__(self) -> str:
        """Raise."""
        raise RuntimeError("secret")


class StatusError(ConnectionError):
    """One of a library whose answer cannot be read."""

    @property
    def response(self) -> object:
        """Raise."""
        raise RuntimeError("secret")


def too_deep() -> Exception:
    """Return a group in a group, and so on."""
    error: Exception = ValueError("secret")
    for _ in range(5000):
        error = ExceptionGroup("secret", [error])
    return error


def caused() -> Exception:
    """Return one that was raised from what cannot be read."""
    error = ValueError("secret")
    error.__cause__ = StatusError("secret")
    return error


UNTOLD: dict[str, Callable[[], Exception]] = {
    "no base": ForgotItsBaseError,
    "property": LazyError,
    "text": TextError,
    "answer": StatusError,
    "depth": too_deep,
    "cause": caused,
    "exception": lambda: errors.NotFound(KeyError("secret")),  # type: ignore[arg-type] - the point
    "half": lambda: errors.NotFound("No \udcff here."),
    "protocol": lambda: MCPError(-32000, "No \udcff here."),
}
ONE = {"crash": ValueError("secret"), "failure": errors.NotFound(), "library": ConnectionResetError("secret")}


@tool(read_only=True)
async def raises(what: Annotated[str, Field(max_length=20)]) -> str:
    """Raise what cannot be told."""
    make = UNTOLD[what]
    raise make()


@tool(read_only=True)
async def raises_one(what: Annotated[str, Field(max_length=20)]) -> int:
    """Raise the same exception in each call; without a name, say how many frames they keep."""
    if what in ONE:
        raise ONE[what]
    return sum(1 for error in ONE.values() for _ in walk_tb(error.__traceback__))


@tool(read_only=True, streams=True)
async def reports(ctx: Context) -> str:
    """Report what cannot be sent, and what can."""
    await ctx.report_progress(1, float("nan"), "No \udcff here.")
    await asyncio.sleep(0.1)
    await ctx.report_progress(float("inf"), 3)
    await ctx.report_progress(2, 3)
    return "done"


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server that raises it in a tool and in a prompt."""
    server = harden(settings, tools=(raises, raises_one, reports))

    @server.prompt()
    async def raises_too(what: str) -> str:
        """Raise what cannot be told."""
        make = UNTOLD[what]
        raise make()

    _ = raises_too
    return server


if __name__ == "__main__":
    raise SystemExit(serve(HardeningSettings, build))
