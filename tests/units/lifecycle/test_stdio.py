"""The `stdio` command: a client on this machine gets the same tools, and nothing but JSON-RPC, until it leaves."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pytest

SUPPORT = Path(__file__).parents[3] / "template/tests/support"
sys.path.insert(0, str(SUPPORT))

import alias

alias.install()

import sample
from pydantic import BaseModel, Field, SecretStr
from wire import ERAS, META, SECONDS, Era, opening

from hardening import Context, HardeningSettings, harden, log, tool
from hardening.calls.canonical import schema_sha256

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from hardening.server import HardenedServer

Text = Annotated[str, Field(max_length=2000)]
CLIENT = {"capabilities": {"elicitation": {}}, "clientInfo": {"name": "wire", "version": "1"}}


@tool(read_only=True)
async def loud(text: Text) -> str:
    """Write to standard output in every way there is, and read what should be empty."""
    print(text)  # noqa: T201 - the point of it
    sys.stdout.write(text)
    os.write(1, text.encode())
    subprocess.run(["echo", text], check=True)  # noqa: ASYNC221
    await (await asyncio.create_subprocess_exec("echo", text)).wait()
    print(text, file=sys.__stdout__, flush=True)
    Path("/dev/stdout").write_text(text, "utf-8")  # noqa: ASYNC240 - as scripts do
    logging.getLogger("author").addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger("author").warning(text)
    warnings.warn(text, stacklevel=1)
    faulthandler.dump_traceback(1)
    return repr(sys.stdin.read())


class Sure(BaseModel):
    """What a person is asked."""

    ok: bool


@tool(read_only=False, destructive=True, confirm=True)
async def wipe(text: Text) -> str:
    """Delete something after the person has agreed."""
    return f"deleted {text}"


@tool(read_only=True)
async def asking(ctx: Context) -> str:
    """Ask over the connection."""
    return (await ctx.sdk.elicit("Sure?", Sure)).action


@tool(read_only=True, rate_per_minute=2)
async def seldom() -> str:
    """Be called twice a minute at most."""
    return "called"


TOOLS = (*sample.TOOLS, loud, wipe, asking, seldom)


def build(settings: HardeningSettings) -> HardenedServer:
    """Return a server of all of them."""
    return harden(settings, tools=TOOLS)


class Client:
    """A child of the test, and the two ends of it."""

    def __init__(self, process: asyncio.subprocess.Process, era: Era) -> None:
        self.process = process
        self.era: Era = era
        self.number = 0

    async def send(self, message: Any) -> None:
        """Write one line."""
        assert self.process.stdin is not None
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.process.stdin.write(text + b"\n")
        await self.process.stdin.drain()

    async def read(self) -> dict[str, Any]:
        """Return the next line of standard output; it has to be JSON-RPC."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), SECONDS)
        message = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return message

    async def ask(self, method: str, params: dict[str, Any] | None = None, **meta: Any) -> int:
        """Send a request; return its id."""
        self.number += 1
        given: dict[str, Any] = dict(params or {})
        if self.era == "modern":
            given["_meta"] = {**META, **meta}
        await self.send({"jsonrpc": "2.0", "id": self.number, "method": method, "params": given})
        return self.number

    async def call(self, name: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Call a tool and return the answer."""
        number = await self.ask("tools/call", {"name": name, "arguments": arguments or {}, **more})
        answer = await self.read()
        assert answer["id"] == number
        return answer

    async def call_method(self, method: str) -> dict[str, Any]:
        """Send a request without parameters and return the answer."""
        await self.ask(method)
        return await self.read()

    async def end(self) -> tuple[int, str]:
        """Close the input; return exit code and log. Standard output has to be at its end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await self.wait()

    async def wait(self) -> tuple[int, str]:
        """Wait for the end; return exit code and log."""
        output, errors = await asyncio.wait_for(self.process.communicate(), SECONDS)
        assert output == b""
        return self.process.returncode or 0, errors.decode()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Any]:
    """Start servers, opened as a client of that era opens them."""
    started: list[asyncio.subprocess.Process] = []

    async def begin(era: Era, *arguments: str, **environment: str) -> Client:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MCP_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, *arguments),
            env={**clean, "PYTHONPATH": str(SUPPORT), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )
        started.append(process)
        client = Client(process, era)
        method, params = opening(era)
        await client.ask(method, {**params, **CLIENT} if era == "legacy" else params)
        assert "result" in await client.read()
        if era == "legacy":
            await client.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return client

    yield begin
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


def lines(log: str, message: str) -> list[dict[str, Any]]:
    """Return the log lines with this message."""
    found = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in found if line["msg"] == message]


@pytest.mark.parametrize("era", ERAS)
async def test_the_same_tools_without_network_and_credentials(start: Any, era: Era) -> None:
    """Listing, call and contract hash are those of `serve`; a network's settings do no harm; the exit code is 0."""
    client = await start(era, MCP_AUTH="jwt", HOST="0.0.0.0", MCP_REPLICAS="3", REDIS_URL="redis://nowhere.invalid")
    await client.ask("tools/list")
    listed = (await client.read())["result"]["tools"]
    answer = await client.call("echo", {"text": "hello"})
    code, log = await client.end()
    wanted = build(HardeningSettings.model_construct())

    assert [one["name"] for one in listed] == sorted(wanted.declared)
    assert answer["result"]["structuredContent"] == {"text": "hello", "number": 1}
    assert lines(log, "started")[0]["schema"] == schema_sha256(wanted.tool_list)
    assert code == 0


@pytest.mark.parametrize("era", ERAS)
async def test_only_the_protocol_is_on_standard_output(start: Any, era: Era) -> None:
    """Whatever the author's code and its children print is counted on standard error, and never shown."""
    client = await start(era)
    answer = await client.call("loud", {"text": "Wolpertinger"})
    code, log = await client.end()

    assert answer["result"]["structuredContent"] == {"result": "''"}
    assert {line["stream"] for line in lines(log, "stray output")} >= {"stdout", "descriptor"}
    assert "Wolpertinger" not in log
    assert code == 0


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    "ending",
    [
        ("input",),
        ("SIGTERM",),
        ("SIGHUP",),
        # As from `uv run`, which hands on what the whole group got.
        ("SIGTERM", "SIGTERM"),
        # As clients do that wait a moment in between.
        ("input", "SIGTERM"),
    ],
)
async def test_calls_in_flight_are_answered_before_the_end(start: Any, era: Era, ending: tuple[str, ...]) -> None:
    """At the end of input and at a signal, also when it comes twice, a call is answered; the process ends with 0."""
    client = await start(era)
    number = await client.ask("tools/call", {"name": "wait", "arguments": {"seconds": 1}})
    await client.ask("tools/call", {"name": "echo", "arguments": {"text": "now"}})
    first = await client.read()
    for end in ending:
        if end == "input":
            client.process.stdin.close()
        else:
            client.process.send_signal(signal.Signals[end])
        await asyncio.sleep(0.2)
    answer = await client.read()
    code, log = await client.wait()

    assert first["result"]["structuredContent"]["text"] == "now"
    assert answer["id"] == number
    assert answer["result"]["structuredContent"] == {"result": "waited"}
    assert lines(log, "drain: complete")[0]["in_flight"] == 0
    assert code == 0


@pytest.mark.parametrize("era", ERAS)
async def test_what_does_not_end_is_cut_short(start: Any, era: Era) -> None:
    """A call that outlives the drain is answered "try again", and the process ends with 0 all the same."""
    client = await start(era, "cut")
    await client.ask("tools/call", {"name": "stuck", "arguments": {}})
    await client.ask("tools/call", {"name": "echo", "arguments": {"text": "now"}})
    await client.read()
    began = time.monotonic()
    client.process.send_signal(signal.SIGTERM)
    answer = await client.read()
    code, _ = await client.wait()

    assert answer["result"]["_meta"]["hardening/error"]["kind"] == "upstream_unavailable"
    assert time.monotonic() - began < 8
    assert code == 0


@pytest.mark.parametrize("era", ERAS)
async def test_boundary_deadline_limits_and_scrubbing_hold(start: Any, era: Era) -> None:
    """A crash, a deadline, a rate and a line with an argument are as over HTTP, with one line for each call."""
    client = await start(era)
    crash = await client.call("crash", {"text": "Wolpertinger"})
    slow = await client.call("too_slow", {"text": "Wolpertinger"})
    rates = [await client.call("seldom") for _ in range(3)]
    unknown = await client.call("nope", {})
    _, log = await client.end()

    kinds = [one["result"].get("_meta", {}).get("hardening/error", {}).get("kind") for one in (crash, slow, *rates)]
    assert kinds == ["internal", "timeout", None, None, "rate_limited"]
    assert unknown["error"]["code"] == -32602
    assert "Wolpertinger" not in log
    assert "Wolpertinger" not in json.dumps([crash, slow])
    calls = lines(log, "tool call")
    assert [line["error_code"] for line in calls] == ["internal", "timeout", None, None, "rate_limited"]
    assert {(line["era"], line["principal"], line["client_name"]) for line in calls} == {(era, "stdio", "wire")}
    assert lines(log, "unhandled exception")[0]["request_id"] == calls[0]["request_id"]


async def test_bad_lines_are_answered_and_the_connection_lives(start: Any) -> None:
    """No JSON, no message, too deep, too large: an error for each, without an echo; then a call works."""
    client = await start("modern", MCP_MAX_BODY_BYTES="2000", MCP_MAX_JSON_DEPTH="8")
    codes: list[int] = []
    for bad in (
        b"Wolpertinger",
        b'["Wolpertinger"]',
        b'{"jsonrpc": "2.0", "id": 7}',
        b"[" * 100 + b"]" * 100,
        b"x" * 5000,
    ):
        await client.send(bad)
        answer = await client.read()
        assert "Wolpertinger" not in json.dumps(answer)
        codes.append(answer["error"]["code"])
    await client.send(b"")
    good = await client.call("echo", {"text": "hello"})

    unknown = [await client.call_method(f"none/{number}") for number in range(20)]
    code, log = await client.end()
    refusals = lines(log, "refused")

    assert codes == [-32700, -32600, -32600, -32600, -32600]
    assert {one["error"]["code"] for one in unknown} == {-32601}
    assert code == 0
    assert {line["layer"] for line in refusals} == {"stdio", "protocol"}
    # Two layers, five lines a second for each, and the test is over within a few seconds or many.
    assert sum(line["suppressed"] for line in refusals) + len(refusals) <= 25
    assert "Wolpertinger" not in log
    assert good["result"]["structuredContent"]["text"] == "hello"


async def test_requests_in_flight_are_bounded_and_ids_are_answered_once(start: Any) -> None:
    """One id twice at once, and one request more than allowed, are refused; the others are answered."""
    client = await start("modern", MCP_MAX_IN_FLIGHT_PER_PRINCIPAL="2")
    slow = {"name": "wait", "arguments": {"seconds": 1}, "_meta": META}
    for number in (100, 100, 101, 102):
        await client.send({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": slow})
    answers = [await client.read() for _ in range(4)]

    refused = [(one["id"], one["error"]["data"]["kind"]) for one in answers if "error" in one]
    assert refused == [(100, "duplicate_id"), (102, "concurrency")]
    assert sorted(one["id"] for one in answers if "result" in one) == [100, 101]


async def test_the_person_is_asked_over_either_era(start: Any) -> None:
    """A modern client is given the question and comes again; an older one is asked in between."""
    modern, legacy = await start("modern"), await start("legacy")
    number = await modern.ask(
        "tools/call",
        {"name": "wipe", "arguments": {"text": "it"}},
        **{"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}},
    )
    first = (await modern.read())["result"]
    answers = {"confirm": {"action": "accept", "content": {"confirm": True}}}
    again = {"inputResponses": answers, "requestState": first["requestState"]}
    second = await modern.call("wipe", {"text": "it"}, **again)
    third = await modern.call("wipe", {"text": "it"}, **again)
    await legacy.ask("tools/call", {"name": "wipe", "arguments": {"text": "it"}})
    question = await legacy.read()
    await legacy.send({"jsonrpc": "2.0", "id": question["id"], "result": answers["confirm"]})
    answer = await legacy.read()

    assert number
    assert second["result"]["structuredContent"] == {"result": "deleted it"}
    assert third["error"]["code"] == -32602
    assert question["method"] == "elicitation/create"
    assert answer["result"]["structuredContent"] == {"result": "deleted it"}


async def test_an_open_question_ends_with_the_input(start: Any) -> None:
    """When nobody can answer any more, the call that asks is answered: try again."""
    client = await start("legacy")
    await client.ask("tools/call", {"name": "asking", "arguments": {}})
    assert (await client.read())["method"] == "elicitation/create"
    client.process.stdin.close()
    messages = [await client.read()]
    if "method" in messages[0]:
        messages.append(await client.read())
    code, _ = await client.wait()

    assert messages[-1]["result"]["_meta"]["hardening/error"]["kind"] == "upstream_unavailable"
    assert code == 0


async def test_declarations_that_cannot_be_served_end_with_78(tmp_path: Path) -> None:
    """As `serve` does, before anything is read; standard output stays empty."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "broken"),
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    output, errors = await asyncio.wait_for(process.communicate(), SECONDS)

    assert process.returncode == 78
    assert output == b""
    assert b"Cannot start" in errors


@pytest.mark.parametrize("era", ERAS)
async def test_what_is_printed_while_modules_load_is_not_on_standard_output(start: Any, era: Era) -> None:
    """Before the command has taken standard output over, Python keeps short texts back."""
    client = await start(era, "early")
    answer = await client.call("echo", {"text": "a"})
    code, _ = await client.end()

    assert "result" in answer
    assert code == 0


@pytest.mark.parametrize("era", ERAS)
async def test_fields_and_secrets_of_the_author_are_known(start: Any, era: Era) -> None:
    """A declared field is written, another one is not, and no line holds a secret of the settings."""
    client = await start(era, "own", TOKEN=SECRET)
    answer = await client.call("telling", {})
    code, log = await client.end()
    (line,) = lines(log, "job done")

    assert answer["result"]["structuredContent"] == {"result": "told"}
    assert code == 0
    assert line["order_id"] == 7
    assert "other_id" not in line
    assert SECRET not in log


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_reads_no_more_ends_the_server(start: Any, era: Era) -> None:
    """A broken pipe is an end of the connection: the process ends in time, without a traceback."""
    client = await start(era)
    client.process._transport.get_pipe_transport(1).close()  # noqa: SLF001 - asyncio has no other way
    for _ in range(3):
        await client.ask("tools/call", {"name": "echo", "arguments": {"text": "a" * 2000}})
    client.process.stdin.close()
    errors = await asyncio.wait_for(client.process.stderr.read(), SECONDS)
    code = await asyncio.wait_for(client.process.wait(), SECONDS)

    assert code == 0
    assert b"Traceback" not in errors


def broken(settings: HardeningSettings) -> HardenedServer:
    """Print, as modules do, and declare a tool without a docstring."""
    print("loaded")  # noqa: T201 - the point of it

    @tool(read_only=True)
    async def bad(text: str) -> str:
        return text

    return harden(settings, tools=(bad,))


def cut(settings: HardeningSettings) -> HardenedServer:
    """Return a server whose drain is shorter than its deadlines, which no start accepts."""
    server = build(settings)
    server.hardening_settings = settings.model_copy(update={"drain_timeout_seconds": 0.5})
    return server


@pytest.mark.parametrize("era", ERAS)
async def test_a_state_that_fails_ends_it_with_75(start: Any, era: Era) -> None:
    """The call in flight is answered; then the process ends, for whoever starts it again."""
    client = await start(era, "losing")
    answer = await client.call("lose")
    code, log = await client.wait()

    assert answer["result"]["content"][0]["text"] == "answered"
    assert code == 75
    assert lines(log, "state lost, a task of it has failed")
    assert lines(log, "drain: complete")


SECRET = "Wolpertinger-0123456789"  # noqa: S105 - of the test


class Own(HardeningSettings):
    """Settings with a field for log lines, and a secret."""

    log_fields: ClassVar[dict[str, type]] = {"order_id": int}
    token: SecretStr = Field(default=SecretStr(""), validation_alias="TOKEN")


def own(settings: Own) -> HardenedServer:
    """Return a server whose tool logs a field and a secret of the settings."""

    @tool(read_only=True)
    async def telling() -> str:
        """Log what a line may hold, and what it may not."""
        log.info("job done", order_id=7, other_id=8)
        log.warning("sent %s", settings.token.get_secret_value())
        return "told"

    return harden(settings, tools=(telling,))


@tool(read_only=True)
async def lose(ctx: Context[HardeningSettings, asyncio.Event]) -> str:
    """Let a task of the lifespan fail, and answer a second later."""
    ctx.state.set()
    await asyncio.sleep(1)
    return "answered"


@asynccontextmanager
async def open_failing(_: HardeningSettings) -> AsyncGenerator[asyncio.Event]:
    """Yield what lets a task fail."""
    failing = asyncio.Event()

    async def poll() -> None:
        await failing.wait()
        raise KeyError("of the state")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(poll())
        yield failing


def losing(settings: HardeningSettings) -> HardenedServer:
    """Return a server whose state fails while it is served."""
    return harden(settings, tools=(lose,), lifespan=open_failing)


BUILDS: dict[str, tuple[type[HardeningSettings], Any]] = {
    "": (HardeningSettings, build),
    "broken": (HardeningSettings, broken),
    "cut": (HardeningSettings, cut),
    "losing": (HardeningSettings, losing),
    "early": (HardeningSettings, build),
    "own": (Own, own),
}

if __name__ == "__main__":
    from hardening.lifecycle.stdio import claim, serve_stdio

    row = " ".join(sys.argv[1:])
    if row == "early":
        print("printed while modules load")  # noqa: T201 - the point of it
    raise SystemExit(serve_stdio(claim(), *BUILDS[row]))
