"""Extensions of the SDK: what they contribute stands behind the same protections, or is refused by name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import structlog
from captured import captured
from in_process import call
from live import ENVIRONMENT, KEY, PROBE_KEY, Live, settings_from
from mcp import Client, MCPError
from mcp.server.apps import Apps, ResourceCsp
from mcp.server.extension import Extension, MethodBinding, ToolBinding
from mcp.server.mcpserver import require_client_extension
from mcp.types import RequestParams
from pydantic import Field
from wire import ERAS, Era, Wire

from hardening import Context, HardeningSettings, harden, tool
from hardening.calls.declaration import InvalidDeclarationError
from hardening.contract.command import published
from hardening.contract.diff import diff

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hardening.server import HardenedServer

log = structlog.get_logger()
PAGE = "ui://clock/app.html"


class Jobs(Extension):
    """An extension with a method of its own."""

    identifier = "com.example/jobs"

    def settings(self) -> dict[str, Any]:
        """Say how many."""
        return {"most": 3}

    def methods(self) -> Iterator[MethodBinding]:  # type: ignore[override] - the SDK takes a generator too
        """Add one that fails when it is told to."""
        yield RUN
        yield MethodBinding("jobs/ask", RequestParams, ask_person)


class JobParams(RequestParams):
    """What the method takes."""

    name: str


async def run_job(_: Any, params: JobParams) -> dict[str, Any]:
    """Run a job, or fail with its name."""
    log.info("job", kind=params.name)
    if params.name.startswith("crash"):
        raise RuntimeError(f"secret detail about {params.name}")
    return {"done": True}


RUN = MethodBinding("jobs/run", JobParams, run_job)


async def ask_person(context: Any, _: RequestParams) -> dict[str, Any]:
    """Ask over the connection."""
    answer = await context.session.elicit_form("Sure?", {"type": "object", "properties": {}})
    return {"action": answer.action}


def apps(html: str = "<p>clock</p>", **more: Any) -> Apps:
    """Return a tool with a page."""
    extension = Apps()

    @extension.tool(resource_uri=PAGE, **more)
    @tool(read_only=True)
    async def clock(zone: Annotated[str, Field(max_length=20)], ctx: Context) -> str:
        """Say what time it is somewhere."""
        return f"{ctx.principal.name} in {zone}"

    extension.add_html_resource(PAGE, html, csp=ResourceCsp(connect_domains=["https://time.example.com"]))
    return extension


def build(settings: HardeningSettings, *extensions: Extension) -> HardenedServer:
    """Return a server with extensions."""
    return harden(settings, tools=(), extensions=extensions or (apps(), Jobs()))


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """Both extensions on a socket."""
    with Live(settings_from({**ENVIRONMENT, "MCP_RATE_TOOL_PER_MINUTE": "5"}), build) as running:
        yield running


@pytest.mark.parametrize("era", ERAS)
async def test_a_contributed_tool_is_a_tool_like_all_others(wire: Wire, era: Era) -> None:
    """It is listed with its page, its arguments are strict, and it knows its caller."""
    (listed,) = (await wire.ask(era, "tools/list")).result["tools"]
    good = await wire.call(era, "clock", {"zone": "UTC"})
    bad = await wire.call(era, "clock", {"zone": "UTC", "more": 1})
    page = await wire.ask(era, "resources/read", {"uri": PAGE})

    assert listed["_meta"]["ui"]["resourceUri"] == PAGE
    assert listed["inputSchema"]["additionalProperties"] is False
    assert good.text == "alice in UTC"
    assert bad.result["_meta"]["hardening/error"]["kind"] == "invalid_input"
    assert page.result["contents"][0]["text"] == "<p>clock</p>"


async def test_a_method_of_an_extension_is_called_inside_the_boundary(wire: Wire, tmp_path: Path) -> None:
    """It works, a crash says nothing of itself, each call is a line without its parameters, and the rate holds."""
    with captured(tmp_path / "log", level="debug") as log:
        good = await wire.ask("modern", "jobs/run", {"name": "Wolpertinger"})
        crash = await wire.ask("modern", "jobs/run", {"name": "crash Wolpertinger"})
        others = [await wire.ask("modern", "jobs/run", {"name": "again"}) for _ in range(5)]
        lines, text = log.lines(), log.text()
    calls = [line for line in lines if line["msg"] == "extension call"]

    assert good.result["done"] is True
    assert crash.error["data"]["kind"] == "internal"
    assert "secret detail" not in crash.body.decode() + text
    assert "Wolpertinger" not in text
    assert [(line["rpc_method"], line["outcome"]) for line in calls[:2]] == [("jobs/run", "ok"), ("jobs/run", "error")]
    assert all(0 <= line["duration_ms"] < 60_000 for line in calls)
    assert {reply.error["data"]["kind"] for reply in others if "error" in reply.message} == {"rate_limited"}


@pytest.mark.parametrize("era", ERAS)
async def test_a_method_of_an_extension_that_cannot_ask_says_so(wire: Wire, era: Era) -> None:
    """As a tool does, where there is no way back to the client."""
    refused = await wire.ask(era, "jobs/ask", {})

    assert refused.error["data"]["kind"] == "cannot_ask"


async def test_the_probe_calls_no_method_of_an_extension(server: Live) -> None:
    """Its key may look and nothing else."""
    async with Wire(server.url, PROBE_KEY) as probe:
        refused = await probe.ask("modern", "jobs/run", {"name": "x"})
    async with Wire(server.url, KEY) as wire:
        advertised = (await wire.ask("modern", "server/discover")).result["capabilities"]["extensions"]

    assert refused.status == 403
    assert advertised == {"io.modelcontextprotocol/ui": {}, "com.example/jobs": {"most": 3}}


async def test_pages_are_in_the_contract_and_its_diff() -> None:
    """A page that is new, changed or may do more is a change that somebody reads; one that the model loses breaks."""
    settings = settings_from(ENVIRONMENT)
    old = await published(build(settings, apps()))
    text = await published(build(settings, apps("<p>other</p>")))
    hidden = await published(build(settings, apps(visibility=["app"])))
    seen = await published(build(settings, apps(visibility=["app", "model"])))

    assert old["ui"]["clock"]["resourceUri"] == PAGE
    assert old["ui"]["clock"]["csp"] == {"connectDomains": ["https://time.example.com"]}
    assert [(change.kind, change.where) for change in diff(old, text)] == [("text", "clock ui.sha256")]
    assert [(change.kind, change.where) for change in diff(seen, hidden)] == [("breaking", "clock ui.visibility")]
    assert diff(old, old) == []


@tool(read_only=True)
async def needs(ctx: Context) -> str:
    """Run for clients with an extension alone."""
    require_client_extension(ctx.sdk, "com.example/view")
    return "ran"


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_an_extension_that_the_client_lacks_is_named(mode: str) -> None:
    """As in the SDK, in both eras: it is no question that nobody could pass on."""
    async with Client(harden(settings_from(ENVIRONMENT), tools=[needs]), mode=mode) as client:
        with pytest.raises(MCPError, match=r"'com\.example/view'") as failure:
            await client.call_tool("needs", {})
    assert failure.value.error.code == -32021
    assert failure.value.error.data == {"requiredCapabilities": {"extensions": {"com.example/view": {}}}}


class Intercepting(Extension):
    """An extension that stands around every call."""

    identifier = "com.example/around"

    async def intercept_tool_call(self, params: Any, ctx: Any, call_next: Any) -> Any:
        """Pass on."""
        assert params is not None
        return await call_next(ctx)


class Undeclared(Extension):
    """An extension whose tool says nothing of itself."""

    identifier = "com.example/undeclared"

    def tools(self) -> list[ToolBinding]:
        """Add it."""

        async def bare(text: str) -> str:
            return text

        return [ToolBinding(bare)]


class Twice(Jobs):
    """The same extension again."""


class Unnamed(Extension):
    """An extension without a name."""


class Misnamed(Extension):
    """An extension whose name has no prefix."""

    def __init__(self) -> None:
        self.identifier = "jobs"


class Other(Extension):
    """An extension that gives what it is told to."""

    identifier = "com.example/other"

    def __init__(self, **given: Any) -> None:
        self.given = given

    def tools(self) -> Any:
        """Return what was given."""
        return self.given.get("tools", ())

    def methods(self) -> Any:
        """Return what was given."""
        return self.given.get("methods", ())

    def resources(self) -> Any:
        """Return what was given."""
        return self.given.get("resources", ())

    def settings(self) -> Any:
        """Return what was given."""
        return self.given.get("settings", {})


def lost() -> Apps:
    """Return a tool whose page is missing."""
    extension = Apps()

    @extension.tool(resource_uri=PAGE)
    @tool(read_only=True)
    async def clock() -> str:
        """Say what time it is here."""
        return "now"

    return extension


@pytest.mark.parametrize(
    ("extensions", "cure"),
    [
        ((Intercepting(),), "com.example/around: it intercepts calls"),
        ((Undeclared(),), "com.example/undeclared: bare: declare it with @tool"),
        ((apps(description="Another text than the docstring."),), "clock: say description in @tool"),
        ((Jobs(), Twice()), "com.example/jobs: there are two"),
        ((lost(),), "io.modelcontextprotocol/ui: .*no such resource"),
        ((Unnamed(),), "Unnamed: Unnamed.identifier must be a `vendor-prefix/name`"),
        ((Misnamed(),), "jobs: Misnamed.identifier must be a `vendor-prefix/name`"),
        ((Jobs(), Other(methods=[RUN])), "com.example/other: jobs/run: there are two methods of this name"),
        ((Other(methods=[RUN, RUN]),), "com.example/other: jobs/run: there are two methods of this name"),
        ((Other(tools=[needs]),), r"com.example/other: put function into a ToolBinding\(…\)"),
        ((Other(resources=["text"]),), r"com.example/other: put str into a ResourceBinding\(…\)"),
        ((Other(methods=[run_job]),), r"com.example/other: put function into a MethodBinding\(…\)"),
        ((Other(settings={"of": object()}),), r"com.example/other: settings\(\) must give a dict that JSON can hold"),
        ((Other(settings={"most": math.inf}),), r"com.example/other: settings\(\) must give a dict"),
        ((Other(settings=["a"]),), r"com.example/other: settings\(\) must give a dict"),
    ],
)
def test_what_cannot_be_protected_is_refused_by_name(extensions: tuple[Extension, ...], cure: str) -> None:
    """An interceptor, an undeclared tool, words in two places, a name twice, a missing page and what is no binding."""
    with pytest.raises(InvalidDeclarationError, match=cure):
        build(settings_from(ENVIRONMENT), *extensions)


@pytest.mark.parametrize("name", ["resource", "completion", "jobs.run"])
async def test_a_tool_keeps_its_rate_whatever_its_name(name: str) -> None:
    """Also when resources, completion or a method of an extension are counted under the same word."""

    async def named() -> int:
        """Return a number of no meaning."""
        return 1

    named.__name__ = name
    declared = tool(read_only=True, rate_per_minute=1)(named)
    extension = Other(methods=[MethodBinding("jobs.run", JobParams, run_job)])
    server = harden(settings_from(ENVIRONMENT), tools=[declared], extensions=[extension])

    assert not (await call(server, name, {})).is_error
    refused = await call(server, name, {})
    assert refused.meta["hardening/error"]["kind"] == "rate_limited"  # type: ignore[index]
