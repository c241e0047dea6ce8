"""One declaration makes everything that is known about a tool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sample
from mcp.server.mcpserver import Context as SdkContext

from hardening import Context, HardeningSettings, tool
from hardening.calls.function import AuthorFunction, request
from hardening.calls.tool import InvalidDeclarationError, KeptConnectionError, Tool, read_tools
from hardening.exchange import Principal

if TYPE_CHECKING:
    from decimal import Decimal


@tool(read_only=False, destructive=True, idempotent=True, open_world=True, title="Drop it")
async def drop(name: str, ctx: Context) -> dict[str, str]:
    """Drop a thing.

    Gone for good.
    """
    return {"name": name, "caller": ctx.principal.name}


def context(**values: Any) -> Context:
    """Return the context of one call."""
    given: dict[str, Any] = {
        "settings": HardeningSettings.model_construct(),
        "state": None,
        "principal": Principal("api_key", "alice"),
        "request_id": "r",
        "deadline": float("inf"),
        "read_only": True,
        "database": None,
        "sdk": SdkContext[Any, Any](),
    }
    return Context(**{**given, **values})


def test_a_tool_is_listed_as_it_was_declared() -> None:
    """Name, title, docstring, both schemas and each annotation reach the listing."""
    wire = Tool(drop).wire()

    assert (wire.name, wire.title) == ("drop", "Drop it")
    assert wire.description == "Drop a thing.\n\nGone for good."
    assert set(wire.input_schema["properties"]) == {"name"}
    assert wire.output_schema is not None
    assert wire.annotations is not None
    assert wire.annotations.model_dump(exclude_none=True) == {
        "read_only_hint": False,
        "destructive_hint": True,
        "idempotent_hint": True,
        "open_world_hint": True,
    }


def test_a_tool_without_a_title_gets_one_from_its_name() -> None:
    """Every tool has a title for people."""
    assert Tool(sample.too_slow).wire().title == "Too slow"


async def test_a_call_gets_its_arguments_and_its_context() -> None:
    """The context comes under whatever name the parameter has, and cannot be given by a caller."""
    result = await Tool(drop).call({"name": "x"}, context(), 1000)

    assert result.structured_content == {"name": "x", "caller": "alice"}  # type: ignore[union-attr]
    with pytest.raises(Exception, match="does not know"):
        await Tool(drop).call({"name": "x", "ctx": {}}, context(), 1000)


async def test_a_tool_that_returns_with_a_connection_has_failed() -> None:
    """What was written on a connection that is kept is lost, so the call must not say that it worked."""

    class Pool:
        def __init__(self) -> None:
            self.cut_connections: list[Any] = []

        def cut(self, connection: Any) -> None:
            self.cut_connections.append(connection)

    pool = Pool()
    call = context(database=pool)
    call.held = "connection"  # type: ignore[assignment]

    with pytest.raises(KeptConnectionError):
        await Tool(drop).call({"name": "x"}, call, 1000)
    assert pool.cut_connections == ["connection"]


def test_tools_are_sorted_by_name() -> None:
    """The listing is the same whatever order the author has written (2026-07-28, Tools)."""
    assert list(read_tools(sample.TOOLS)) == sorted(function.__name__ for function in sample.TOOLS)


def blocking(value: int) -> int:
    """Block the event loop."""
    return value


async def plain(value: int) -> int:
    """Have no declaration."""
    return value


async def silent(value: int):  # type: ignore[no-untyped-def] # noqa: ANN201
    """Do not say what comes back."""
    return value


async def unknown_type(value: Decimal) -> int:
    """Take a type that is imported for the type checker only."""
    return int(value)


def test_every_function_that_cannot_be_served_is_named_at_once() -> None:
    """All problems are told in one go, each with what to change."""
    with pytest.raises(InvalidDeclarationError) as refused:
        read_tools(
            [
                plain,
                tool(read_only=True)(blocking),  # type: ignore[type-var]
                tool(read_only=True)(silent),
                tool(read_only=True)(unknown_type),
                drop,
                drop,
            ]
        )

    assert str(refused.value).split("\n") == [
        "plain: add @tool(read_only=…) above the function",
        "blocking: write it as `async def`, so that its deadline can end it",
        "silent: say what it returns, so that clients get an output schema",
        "unknown_type: import Decimal outside TYPE_CHECKING, or make it at the top of the file",
        "drop: there are two tools of this name",
    ]


async def test_a_prompt_that_returns_with_a_connection_has_failed() -> None:
    """As a tool: what it wrote is rolled back, and whoever asked is not told that it worked."""

    class Pool:
        def __init__(self) -> None:
            self.cut_connections: list[Any] = []

        def cut(self, connection: Any) -> None:
            self.cut_connections.append(connection)

    pool = Pool()
    kept = context(database=pool)
    kept.held = "connection"  # type: ignore[assignment]

    async def sum_up(ctx: Context) -> str:
        return ctx.principal.name

    request.set(SdkContext[Any, Any]())
    with pytest.raises(KeptConnectionError):
        await AuthorFunction("prompt sum_up", sum_up, lambda _: kept)()
    assert pool.cut_connections == ["connection"]
