"""Words of the SDK's context and session: on `ctx.sdk` as in the SDK, on hardening's `ctx` refused with their place.

A release of the SDK that adds a word fails the tests of the lists.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
from live import ENVIRONMENT, settings_from
from mcp.server import mcpserver
from mcp.server.mcpserver import Context as SdkContext
from mcp.server.mcpserver import MCPServer
from mcp.server.session import ServerSession
from pydantic import BaseModel

from hardening import Context, harden, tool
from hardening.calls.declaration import InvalidDeclarationError
from hardening.calls.sdk_words import WORDS

# What both contexts have; `request_id` is the reference of log lines here, and the id of the message there.
BOTH = {"report_progress", "request_id"}
# Refused on `ctx`, and as in the SDK on `ctx.sdk`.
ELSEWHERE = {
    *("debug", "info", "warning", "error", "log"),
    *("elicit", "elicit_url", "input_responses", "request_state"),
    *("notify_prompts_changed", "notify_resource_updated", "notify_resources_changed", "notify_tools_changed"),
    *("client_capabilities", "headers", "mcp_server", "protocol_version", "read_resource", "request_context"),
    *("session", "close_sse_stream", "close_standalone_sse_stream"),
}
SESSION = {
    *("can_send_request", "check_client_capability", "client_capabilities", "client_params", "protocol_version"),
    *("create_message", "elicit", "elicit_form", "elicit_url", "list_roots", "send_elicit_complete", "send_ping"),
    *("report_progress", "send_log_message", "send_notification", "send_progress_notification", "send_request"),
    *("send_prompt_list_changed", "send_resource_list_changed", "send_resource_updated", "send_tool_list_changed"),
}
# Of the decorators; `security` and the like are compared in the corpus of prompts and resources.
PARAMETERS = {
    "tool": {"name", "title", "description", "annotations", "icons", "meta", "structured_output"},
    "prompt": {"name", "title", "description", "icons"},
    "resource": {
        *("uri", "name", "title", "description", "mime_type", "icons", "annotations", "meta", "security"),
    },
    "completion": set(),
}
PUBLIC = {
    *("MCPServer", "Context", "Image", "Audio", "Message", "UserMessage", "AssistantMessage", "Icon"),
    *("Resolve", "Elicit", "Sample", "ListRoots", "ElicitationResult"),
    *("AcceptedElicitation", "DeclinedElicitation", "CancelledElicitation"),
    *("Extension", "ToolBinding", "ResourceBinding", "MethodBinding", "require_client_extension"),
    *("ResourceSecurity", "DEFAULT_RESOURCE_SECURITY", "authenticated_principal"),
    *("RequestStateSecurity", "RequestStateCodec", "RequestStateBoundary", "AESGCMRequestStateCodec"),
    "InvalidRequestState",
}


def public(kind: type) -> set[str]:
    """Return the public names of a class."""
    return {name for name in dir(kind) if not name.startswith("_")} - set(dir(BaseModel))


def test_every_word_of_the_sdk_is_known() -> None:
    """Of its context, its session, its decorators and its package: a new one is looked at before it is served."""
    assert public(SdkContext) == ELSEWHERE | BOTH
    assert public(ServerSession) == SESSION
    assert set(mcpserver.__all__) == PUBLIC
    for name, parameters in PARAMETERS.items():
        assert inspect.signature(getattr(MCPServer, name)).parameters.keys() - {"self"} == parameters, name


def test_every_word_that_is_elsewhere_is_refused() -> None:
    """None is left out: it would be an `AttributeError` in the first call."""
    assert WORDS == ELSEWHERE


async def logs(ctx: Context) -> str:
    """Tell the client something."""
    await ctx.info("words")  # type: ignore[attr-defined]
    return ""


async def logs_inside(value: int, context: Context | None = None) -> str:
    """Tell the client something, in a function inside."""

    async def inner() -> None:
        await context.warning(str(value))  # type: ignore[union-attr]

    await inner()
    return ""


async def looks(ctx: Context) -> str:
    """Look at the session and the lifespan."""
    return f"{ctx.session} {ctx.request_context.lifespan_context}"  # type: ignore[attr-defined]


async def elicits(ctx: Context) -> str:
    """Ask the person."""
    return str(await ctx.elicit("Sure?", BaseModel))  # type: ignore[attr-defined]


class Methods:
    """What may stand in place of a function."""

    @tool(read_only=True)
    async def method(self, ctx: Context) -> str:
        """Tell the client something."""
        await ctx.debug("words")  # type: ignore[attr-defined]
        return ""


LOGGED = "log.info(…) of hardening tells the operator, and ctx.sdk"
TAKEN: dict[str, tuple[Any, list[str]]] = {
    "a log message": (logs, [f"ctx.info: {LOGGED}.info is the SDK's own"]),
    "in a function inside": (logs_inside, [f"context.warning: {LOGGED}.warning is the SDK's own"]),
    "two": (
        looks,
        [
            "ctx.session: ctx.sdk.session is the SDK's own",
            "ctx.request_context: ctx.state is what the lifespan yields, and ctx.sdk.request_context is the SDK's own",
        ],
    ),
    "a question": (elicits, ["ctx.elicit: Annotated[T, Resolve(…)] asks the person in both eras, and ctx.sdk.elicit"]),
}


@pytest.mark.parametrize("row", TAKEN)
def test_a_word_of_the_sdks_context_is_refused_where_it_is_declared(row: str) -> None:
    """Of tools, prompts and resources alike, with what to write instead; each word once."""
    function, sentences = TAKEN[row]
    name = function.__name__
    server = harden(settings_from(ENVIRONMENT), tools=[])
    declarations: dict[str, Any] = {
        name: lambda: harden(settings_from(ENVIRONMENT), tools=[tool(read_only=True)(function)]),
        f"prompt {name}": lambda: server.prompt()(function),
    }

    for owner, declare in declarations.items():
        with pytest.raises(InvalidDeclarationError) as problem:
            declare()
        assert len(problem.value.problems) == len(sentences)
        for line, sentence in zip(problem.value.problems, sentences, strict=True):
            assert line.startswith(f"{owner}: {sentence}")


def test_methods_are_looked_at_too() -> None:
    """Where the class declares them."""
    with pytest.raises(InvalidDeclarationError, match=r"method: ctx\.debug: log\.info"):
        harden(settings_from(ENVIRONMENT), tools=[Methods().method])


async def own(ctx: Context, other: int | None = None) -> str:
    """Use what hardening's context has, and words of other things."""
    await ctx.report_progress(1)
    return f"{ctx.principal.name} {ctx.sdk.protocol_version} {other.session if other else ''}"  # type: ignore[attr-defined]


async def sdk(ctx: Context) -> str:
    """Use what the SDK itself has."""
    await ctx.sdk.info("words")  # pyright: ignore[reportDeprecated]
    context = ctx.sdk
    return f"{context.session} {ctx.sdk.request_context}"


class Logger:
    """Of the author's, with words that the SDK's context has."""

    session = headers = ""

    def info(self, *words: object) -> None:
        """Log."""

    error = warning = debug = log = elicit = info


async def variables(ctx: Context, session: int = 0) -> str:
    """Use such words as names of variables, of parameters and of what other things have."""
    logger, info, headers = Logger(), ctx.request_id, {"error": ctx.principal.name}
    logger.info(info, ctx.principal)
    logger.elicit(ctx)
    getattr(logger, "error")(ctx, session)  # noqa: B009
    (ctx, logger)[1].info("words")
    (logger if session == 0 else ctx).warning("words")  # type: ignore[union-attr]
    (logger or ctx).debug("words")
    return logger.session + info + str(headers) + "".join(logger.headers for _ in (ctx,))


async def taken_over(ctx: Context) -> str:
    """Give the name to another thing."""
    ctx = ctx.sdk  # type: ignore[assignment]
    return str(ctx.protocol_version)  # type: ignore[attr-defined]


async def taken_over_with_others(ctx: Context) -> str:
    """Give the name to another thing, two names at once, after a loop."""
    for _ in range(2):
        ctx, other = Logger(), 1  # type: ignore[assignment]
        ctx.info(other)  # type: ignore[attr-defined]
    return ""


async def of_another(ctx: Context) -> str:
    """Have the same name inside, for another thing."""

    def inner(ctx: Logger) -> str:
        ctx.info("words")
        return ctx.session

    loggers = [ctx.session for ctx in [Logger()]]
    return inner(Logger()) + "".join(loggers) + ctx.request_id


async def looks_first(ctx: Context) -> str:
    """Look whether it is there."""
    if hasattr(ctx, "info"):
        await ctx.info("words")  # type: ignore[attr-defined]
    return ""


async def expects(ctx: Context) -> str:
    """Expect that it is not there."""
    try:
        return str(ctx.session)  # type: ignore[attr-defined]
    except AttributeError:
        return ""


def adapted(function: Any) -> Any:
    """Give the function another object in place of the context."""

    @functools.wraps(function)
    async def call(ctx: Any) -> Any:
        return await function(Logger() if ctx else ctx)

    return call


async def written_for_another(ctx: Context) -> str:
    """Rely on the decorator."""
    ctx.info("words")  # type: ignore[attr-defined]
    return ctx.session  # type: ignore[attr-defined]


OTHERS = [own, sdk, variables, taken_over, taken_over_with_others, of_another, looks_first, expects]


@pytest.mark.parametrize("function", [*OTHERS, adapted(written_for_another)])
def test_words_of_other_things_are_left_alone(function: Any) -> None:
    """Of `ctx.sdk`, of variables and objects, and of whatever may have taken the place of the context."""
    assert harden(settings_from(ENVIRONMENT), tools=[tool(read_only=True)(function)]).declared.keys()


def test_a_word_that_the_context_has_been_given_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an author who adds it to the class."""
    monkeypatch.setattr(Context, "info", Logger.info, raising=False)

    assert harden(settings_from(ENVIRONMENT), tools=[tool(read_only=True)(logs)]).declared.keys()
