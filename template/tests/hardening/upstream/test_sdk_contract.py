"""What is relied on of the SDK beyond its documented interface: each test names what breaks when it changes.

The servers here are the SDK's own, without the hardening; when one of these tests fails after an upgrade,
the protection in its docstring needs another place to stand on.
"""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from mcp import MCPError
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.caching import CacheHint
from mcp.server.mcpserver import MCPServer
from mcp.server.request_state import RequestStateSecurity
from mcp.shared.inbound import find_invalid_x_mcp_header
from mcp.types import CallToolResult, Completion, InputRequiredResult, TextContent, Tool
from sse_starlette.sse import AppStatus, EventSourceResponse
from wire import ERAS, LEGACY, MODERN, Era, Reply, opening, read, request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

SCHEMA = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}


class Plain(MCPServer[None]):
    """The SDK's server with the methods overridden that the hardening overrides."""

    def __init__(self, **options: Any) -> None:
        super().__init__("plain", log_level="CRITICAL", **options)
        self.seen: list[tuple[str, Any]] = []

    async def list_tools(self) -> list[Tool]:
        """Return a tool that the SDK does not know of."""
        return [Tool(name="own", input_schema=SCHEMA)]

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """Note a call."""
        self.seen.append((name, arguments))
        if name == "ask" and context.request_state is None:
            return InputRequiredResult(request_state="remembered")
        if name == "protocol":
            raise MCPError(-31000, "In these words.", {"a": 1})
        said = str(context.request_state) if name == "ask" else "own"
        return CallToolResult(content=[TextContent(type="text", text=said)], is_error=name == "fail", _meta={"m": 1})

    async def get_prompt(self, name: str, arguments: Any = None, context: Any = None) -> Any:  # noqa: ARG002
        """Note a prompt."""
        self.seen.append((name, arguments))
        raise MCPError(-32602, "Unknown prompt")

    async def read_resource(self, uri: Any, context: Any = None) -> Any:  # noqa: ARG002
        """Note a resource."""
        self.seen.append(("resource", str(uri)))
        raise MCPError(-32602, "Resource not found")


class Spoken:
    """A client of an application in this process."""

    def __init__(self, app: ASGIApp) -> None:
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://any.example.com")

    async def ask(
        self, era: Era, method: str, params: dict[str, Any] | None = None, *, rpc_id: Any = 1, **headers: str
    ) -> Reply:
        """Send one request as a good client of that era; a header given as "" is left out."""
        usual, body = request(era, method, params, rpc_id=rpc_id)
        return await self.send(body, {**usual, **{name.replace("_", "-"): value for name, value in headers.items()}})

    async def send(self, body: bytes, headers: dict[str, str], method: str = "POST") -> Reply:
        """Send anything."""
        given = {name: value for name, value in headers.items() if value}
        answer = await self.http.request(method, "/mcp", content=body, headers=given)
        return read(answer.status_code, answer.headers, answer.content)


@asynccontextmanager
async def spoken(
    server: MCPServer[Any], wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app, *, stateless: bool = True
) -> AsyncGenerator[Spoken]:
    """Serve as the hardening does: the session manager alone, with its own checks of Host and Origin off."""
    server.streamable_http_app(stateless_http=stateless, host="checked.invalid")
    manager = server.session_manager
    async with manager.run():
        client = Spoken(wrap(manager.handle_request))
        try:
            yield client
        finally:
            await client.http.aclose()


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_goes_through_call_tool(era: Era) -> None:
    """Deadlines, limits, typed failures and log lines of tools stand in the override of `call_tool`."""
    server = Plain()
    async with spoken(server) as client:
        answer = await client.ask(era, "tools/call", {"name": "fail", "arguments": {"a": 1}})

    assert server.seen == [("fail", {"a": 1})]
    assert answer.result["isError"] is True
    assert answer.text == "own"
    assert answer.result["_meta"]["m"] == 1


@pytest.mark.parametrize("era", ERAS)
async def test_a_protocol_error_passes_call_tool_as_it_is(era: Era) -> None:
    """An unknown tool is -32602 because the SDK hands on what `call_tool` raises."""
    async with spoken(Plain()) as client:
        answer = await client.ask(era, "tools/call", {"name": "protocol", "arguments": {}})

    assert answer.error == {"code": -31000, "message": "In these words.", "data": {"a": 1}}


@pytest.mark.parametrize("era", ERAS)
async def test_prompts_and_resources_go_through_their_methods(era: Era) -> None:
    """Deadlines and typed failures of prompts and resources stand in `get_prompt` and `read_resource`."""
    server = Plain()
    async with spoken(server) as client:
        prompt = await client.ask(era, "prompts/get", {"name": "p", "arguments": {"a": "1"}})
        resource = await client.ask(era, "resources/read", {"uri": "x://y"})

    assert server.seen == [("p", {"a": "1"}), ("resource", "x://y")]
    assert (prompt.error["code"], prompt.error["message"]) == (-32602, "Unknown prompt")
    assert (resource.error["code"], resource.error["message"]) == (-32602, "Resource not found")


@pytest.mark.parametrize("era", ERAS)
async def test_the_listing_comes_from_list_tools(era: Era) -> None:
    """Tools are declared outside the SDK's own registry, so that nothing is called past the boundary."""
    async with spoken(Plain()) as client:
        answer = await client.ask(era, "tools/list")

    assert [tool["name"] for tool in answer.result["tools"]] == ["own"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_completion_is_called_with_what_it_completes(era: Era) -> None:
    """The deadline of completions stands in a wrapper with the same three arguments."""
    server = Plain()
    given: list[Any] = []

    @server.completion()
    async def complete(*arguments: Any) -> Completion:
        given.extend(arguments)
        return Completion(values=["one"])

    async with spoken(server) as client:
        reference = {"type": "ref/prompt", "name": "p"}
        params = {"ref": reference, "argument": {"name": "a", "value": "b"}}
        answer = await client.ask(era, "completion/complete", params)

    assert answer.result["completion"]["values"] == ["one"]
    assert len(given) == 3
    assert given[1].value == "b"
    _ = complete


@pytest.mark.parametrize("era", ERAS)
async def test_middleware_sees_every_opening_and_its_result(era: Era) -> None:
    """Truthful capabilities come from a middleware that changes the result's dictionary, the line of an opening too."""
    seen: list[str] = []

    async def middleware(ctx: Any, call_next: Any) -> Any:
        seen.append(ctx.method)
        result = await call_next(ctx)
        assert isinstance(result, dict)
        result["capabilities"] = {"tools": {}}
        return result

    async with spoken(Plain(middleware=[middleware])) as client:
        answer = await client.ask(era, *opening(era))

    assert seen == [opening(era)[0]]
    assert answer.result["capabilities"] == {"tools": {}}


@pytest.mark.parametrize("era", ERAS)
async def test_middleware_can_refuse_a_message(era: Era) -> None:
    """Cursors are refused by what a middleware raises; it sees the parameters as they came."""

    async def middleware(ctx: Any, call_next: Any) -> Any:
        del call_next
        raise MCPError(-32602, "Refused.", {"cursor": ctx.params["cursor"]})

    async with spoken(Plain(middleware=[middleware])) as client:
        answer = await client.ask(era, "tools/list", {"cursor": "c"})

    assert answer.error == {"code": -32602, "message": "Refused.", "data": {"cursor": "c"}}


@pytest.mark.parametrize("era", ERAS)
async def test_middleware_is_around_the_handler(era: Era) -> None:
    """An exception of a listing passes the middleware, which replaces it; without that its text may leave."""
    server = Plain()
    raised: list[BaseException] = []

    async def failing() -> Any:
        raise RuntimeError("text")

    async def middleware(ctx: Any, call_next: Any) -> Any:
        try:
            return await call_next(ctx)
        except RuntimeError as error:
            raised.append(error)
            raise MCPError(-32603, "Replaced.") from None

    server = Plain(middleware=[middleware])
    server.list_resources = failing  # type: ignore[method-assign]
    async with spoken(server) as client:
        answer = await client.ask(era, "resources/list")

    assert len(raised) == 1
    assert (answer.error["code"], answer.error["message"]) == (-32603, "Replaced.")


@pytest.mark.parametrize("era", ERAS)
async def test_context_variables_reach_the_handlers(era: Era) -> None:
    """Request id, principal and what must not be logged are found through a variable that the edge sets."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="unset")
    found: list[str] = []

    class Looking(Plain):
        async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
            found.append(variable.get())
            return await super().call_tool(name, arguments, context)

    def wrap(app: ASGIApp) -> ASGIApp:
        async def edge(scope: Scope, receive: Receive, send: Send) -> None:
            variable.set("set at the edge")
            await app(scope, receive, send)

        return edge

    async with spoken(Looking(), wrap) as client:
        await client.ask(era, "tools/call", {"name": "own", "arguments": {}})

    assert found == ["set at the edge"]


@pytest.mark.parametrize(
    ("version", "status", "code"),
    [
        (MODERN, 400, -32602),
        ("2099-01-01", 400, -32602),
        (LEGACY, 200, None),
        ("2024-11-05", 200, None),
        ("", 200, None),
    ],
)
async def test_the_version_header_alone_decides_the_era(version: str, status: int, code: int | None) -> None:
    """Limits and logs tell the eras apart by that header, so the SDK must do the same."""
    headers, body = request("legacy", "tools/list")
    async with spoken(Plain()) as client:
        answer = await client.send(body, {**headers, "mcp-protocol-version": version})

    assert answer.status == status
    assert (answer.error["code"] if code else None) == code


async def test_an_unknown_version_is_told_what_is_spoken() -> None:
    """A client of a later protocol learns which version to speak (2026-07-28, Versioning)."""
    headers, body = request("modern", "tools/list")
    later = body.replace(MODERN.encode(), b"2099-01-01")
    async with spoken(Plain()) as client:
        answer = await client.send(later, {**headers, "mcp-protocol-version": "2099-01-01"})

    assert answer.error["code"] == -32022
    assert answer.error["data"]["supported"] == [MODERN]


async def test_without_sessions_older_clients_keep_nothing_here() -> None:
    """Legacy is stateless by default: no session id, any request at any replica, equal ids side by side."""
    async with spoken(Plain()) as client:
        opened = await client.ask("legacy", *opening("legacy"))
        answers = await asyncio.gather(
            *(client.ask("legacy", "tools/call", {"name": name, "arguments": {}}) for name in ("own", "fail"))
        )

    assert "mcp-session-id" not in opened.headers
    assert [answer.result["isError"] for answer in answers] == [False, True]


@pytest.mark.parametrize(
    "headers",
    [
        {"mcp_method": "tools/list"},
        {"mcp_method": ""},
        {"mcp_name": "other"},
        {"mcp_name": ""},
        {"mcp_protocol_version": "2099-01-01"},
        {"mcp_param_region": "north"},
        {"mcp_param_region": ""},
    ],
    ids=str,
)
async def test_headers_must_say_what_the_body_says(headers: dict[str, str]) -> None:
    """Limits before the body believe the headers, because the SDK refuses a body that differs (SEP-2243)."""
    server = Plain()
    async with spoken(server) as client:
        server.session_manager.app.get_tool_input_schema = lambda name: SCHEMA if name == "own" else None
        params = {"name": "own", "arguments": {"region": "south"}}
        good = await client.ask("modern", "tools/call", params, mcp_param_region="south")
        bad = await client.ask("modern", "tools/call", params, **{"mcp_param_region": "south", **headers})

    assert good.text == "own"
    assert (bad.status, bad.error["code"]) == (400, -32020)
    assert len(server.seen) == 1


def test_an_invalid_parameter_header_is_found() -> None:
    """The lint at start asks the SDK what its clients would drop."""
    bad = {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": "two words"}}}

    assert find_invalid_x_mcp_header(SCHEMA) is None
    assert find_invalid_x_mcp_header(bad)


async def test_carried_state_is_bound_to_whom_we_say() -> None:
    """State is bound to the principal by a function that is set, also on keys that end with the process."""
    caller = "alice"
    security = RequestStateSecurity.ephemeral()
    security.bind_principal = lambda _: caller
    async with spoken(Plain(request_state_security=security)) as client:
        asked = await client.ask("modern", "tools/call", {"name": "ask", "arguments": {}})
        again = {"name": "ask", "arguments": {}, "requestState": asked.result["requestState"]}
        mine = await client.ask("modern", "tools/call", again)
        caller = "bob"
        theirs = await client.ask("modern", "tools/call", again)

    assert mine.text == "remembered"
    assert theirs.error["code"] == -32602


async def test_sessions_belong_to_the_user_of_the_scope() -> None:
    """A session is found only by its caller, because the SDK compares the user that authentication has set."""
    token = AccessToken(token="", client_id="alice", scopes=[], subject="alice", claims={"iss": "us"})

    def wrap(app: ASGIApp) -> ASGIApp:
        async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
            scope["user"] = AuthenticatedUser(token)
            await app(scope, receive, send)

        return authenticated

    async with spoken(Plain(), wrap, stateless=False) as client:
        opened = await client.ask("legacy", *opening("legacy"))
        session = opened.headers["mcp-session-id"]
        mine = await client.ask("legacy", "tools/list", mcp_session_id=session)
        token = token.model_copy(update={"client_id": "bob", "subject": "bob"})
        theirs = await client.ask("legacy", "tools/list", mcp_session_id=session)
        unknown = await client.ask("legacy", "tools/list", mcp_session_id="0" * 32)

    assert mine.status == 200
    assert theirs.status == unknown.status == 404
    assert theirs.error == unknown.error


async def test_subscriptions_can_be_left_out() -> None:
    """Where replicas share nothing no stream is promised: `subscriptions=False` takes the method away."""
    async with spoken(Plain(subscriptions=False)) as client:
        answer = await client.ask("modern", "subscriptions/listen", {"notifications": {}})
        capabilities = (await client.ask("modern", "server/discover")).result["capabilities"]

    assert answer.error["code"] == -32601
    assert not any(part.get("listChanged") for part in capabilities.values())


@pytest.mark.parametrize("method", ["server/discover", "tools/list", "prompts/list", "resources/list"])
async def test_hints_reach_their_listings(method: str) -> None:
    """How long a listing holds is said per method when the server is made."""
    hints: dict[Any, CacheHint] = {method: CacheHint(ttl_ms=7, scope="public")}
    async with spoken(Plain(cache_hints=hints)) as client:
        result = (await client.ask("modern", method)).result

    assert (result["ttlMs"], result["cacheScope"]) == (7, "public")


async def test_host_and_origin_are_not_checked_twice() -> None:
    """The edge checks both on every route; a server told to be reached at another name adds no check of its own."""
    async with spoken(Plain()) as client:
        answer = await client.ask("modern", "tools/list", host="else.example.com", origin="https://else.example.com")

    assert answer.status == 200


@pytest.fixture
def draining() -> Iterator[None]:
    """A process whose server is about to exit, as the SSE library finds it: through the signal handler."""

    class Leaving:
        should_exit = True

        def handle(self, *_: Any) -> None:
            """Do nothing."""

    automatic, before = AppStatus.enable_automatic_graceful_drain, signal.getsignal(signal.SIGTERM)
    leaving = Leaving()
    signal.signal(signal.SIGTERM, leaving.handle)
    yield
    signal.signal(signal.SIGTERM, before)
    AppStatus.enable_automatic_graceful_drain = automatic


@pytest.mark.parametrize("automatic", [False, True])
async def test_streams_are_cut_at_exit_unless_switched_off(draining: None, automatic: bool) -> None:  # noqa: FBT001
    """A call in flight survives the signal only because the SSE library's own drain is off."""
    del draining
    sent: list[bytes] = []
    if automatic:
        AppStatus.enable_automatic_graceful_drain_mode()
    else:
        AppStatus.disable_automatic_graceful_drain()

    async def events() -> AsyncGenerator[str]:
        yield "first"
        # Longer than the half second in which the library looks.
        await asyncio.sleep(1.2)
        yield "last"

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope: Scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await EventSourceResponse(events())(scope, receive, send)

    assert (b"last" in b"".join(sent)) is not automatic


def test_a_message_is_json_as_everybody_reads_it() -> None:
    """The edge reads a message before the SDK does; of a repeated name both take the last value."""
    from pydantic_core import from_json

    twice = b'{"method":"tools/list","method":"tools/call"}'
    assert from_json(twice) == json.loads(twice) == {"method": "tools/call"}
