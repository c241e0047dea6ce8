"""Sends values through every path of a server, and looks for them in whatever comes out of it.

`swept` judges a whole server; its tools are those of `careless`, and all of the project's.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import careless
import httpx2
from collector import collecting
from live import KEY, PROBE_KEY, SECONDS, Process, free_port
from wire import ERAS, Era, Wire

from hardening.calls.tool import Tool

OWN = {function.__name__ for function in careless.TOOLS}
TOOLS = {tool.name: tool.input_schema for tool in map(Tool, (*careless.TOOLS, *careless.AUTHORS))}
SCRIPT = str(Path(careless.__file__))

# The parts that are looked for, so that a value can be long, and cut, and still be found.
PLAIN = "S3ntinel-of-a-call"
ODD = 'Ωentinel ß 💥 "quoted" \\ 100%&<b>'
VALUES = {
    "plain": PLAIN,
    "odd": f"{ODD} {PLAIN}",
    "binary": f"\x01\x02{PLAIN}\x7f\x80",
    "huge": f"{PLAIN}-" * 5000,
}
TOKEN = "t0ken-that-is-no-key-0123456789-0123456789"  # noqa: S105 - to be refused
CLIENT = f"client-{PLAIN}"
META = {"_meta": {"io.modelcontextprotocol/clientInfo": {"name": CLIENT, "version": PLAIN}}}
HIDDEN = {"x-note": quote(ODD), "cookie": f"a={PLAIN}"}
HEADERS = {**HIDDEN, "user-agent": CLIENT}
# How a call ends, and how its line says it.
ENDS = {"succeed": None, "crash": "internal", "refuse": "not_found", "late": "timeout"}
WITH_EVERY_END = 2
ROOM = {
    "MCP_MAX_IN_FLIGHT": "1000",
    "MCP_MAX_IN_FLIGHT_PER_PRINCIPAL": "1000",
    "MCP_RATE_TOOL_PER_MINUTE": "100000",
    **{f"MCP_RATE_{who}_{what}": "100000" for who in ("ADDRESS", "PRINCIPAL") for what in ("PER_MINUTE", "BURST")},
}


def forms(value: str) -> set[str]:
    """Return the ways in which a value may come out."""
    raw = value.encode()
    found = {value, value.upper(), value.lower(), repr(value)[1:-1], json.dumps(value)[1:-1], quote(value), raw.hex()}
    found |= {html.escape(value), quote(value, safe=""), raw.hex().upper()}
    for pad in range(3):
        coded = base64.b64encode(b"x" * pad + raw).decode()
        found.add(coded[4 : len(coded) - 4])
    return found


SOUGHT = {form for value in (PLAIN, ODD, TOKEN, careless.ANSWER) for form in forms(value)}


def found_in(output: str) -> list[str]:
    """Return what is found of any value."""
    return sorted(form for form in SOUGHT if form in output)


def fitting(schema: dict[str, Any], value: str, root: dict[str, Any]) -> Any:
    """Return what fits a schema, with the value wherever a text can be."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    schema = next((schema[choice][0] for choice in ("anyOf", "oneOf", "allOf") if choice in schema), schema)
    plain = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1), "boolean": True}
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        filled = {name: fitting(one, value, root) for name, one in schema.get("properties", {}).items()}
        further = schema.get("additionalProperties")
        return filled | ({value[:60]: fitting(further, value, root)} if isinstance(further, dict) else {})
    if schema.get("type") == "array":
        return [fitting(schema.get("items", {}), value, root)]
    return plain.get(schema.get("type", ""), value[: schema.get("maxLength", len(value))])


def calls(tool: str) -> list[dict[str, Any]]:
    """Return the arguments to call a tool with; those of the project have one value that holds everything."""
    values = VALUES.values() if tool in OWN and TOOLS[tool].get("properties") else [VALUES["odd"]]
    return [fitting(TOOLS[tool], value, TOOLS[tool]) for value in values]


class Sweep:
    """Sends values through every path of one server.

    Attributes:
        told: What callers were told of failures.
    """

    def __init__(self, wire: Wire, server: Process) -> None:
        self.wire = wire
        self.server = server
        self.told: list[str] = []

    async def ask(self, era: Era, method: str, params: dict[str, Any], key: str | None = None, **headers: str) -> None:
        """Send one request."""
        params |= META if era == "modern" and PLAIN in str(params) else {}
        reply = await self.wire.ask(era, method, params, headers=headers, key=key)
        if not reply.messages or "error" in reply.message or reply.message["result"].get("isError"):
            self.told.append(reply.body.decode())

    async def provoke(self, era: Era) -> None:
        """Take every path of an era."""
        for tool in TOOLS:
            first = calls(tool)[0]
            for number, sent in enumerate(calls(tool)):
                # Every end with two of the values; the further ones differ in what is written, not in how it ends.
                for end in ENDS if number < WITH_EVERY_END else ("succeed", "crash"):
                    await self.call(era, tool, sent, end)
            # Invalid in three ways: of another type, unknown, and beside what is known.
            for wrong in ({name: [PLAIN] for name in first}, {PLAIN: ODD}, first | {PLAIN: PLAIN}):
                await self.call(era, tool, wrong)
        await self.call(era, PLAIN, {"text": ODD})
        await self.ask(era, "prompts/get", {"name": PLAIN, "arguments": {"a": ODD}}, **HEADERS)
        await self.ask(era, "resources/read", {"uri": f"sample://{PLAIN}"}, **HEADERS)
        await self.ask(era, "tools/list", {"cursor": PLAIN}, **{"x-note": quote(ODD)})
        # What belongs to no call: here the name that a client claims is written as it is.
        await self.ask(era, "tools/list", {}, key=TOKEN, **{"x-note": quote(ODD)})
        await self.ask(era, "tools/list", {}, host=f"{PLAIN}.example.com", cookie=f"a={PLAIN}")
        await self.ask(era, "tools/list", {}, origin=f"https://{PLAIN}.example.com")
        for path in (f"/{PLAIN}", f"/mcp?token={PLAIN}"):
            reply = await self.wire.send(b"{" + PLAIN.encode(), {"x-note": quote(ODD)}, path=path)
            self.told.append(reply.body.decode())

    async def call(self, era: Era, tool: str, sent: dict[str, Any], end: str = "") -> None:
        """Call a tool, which then ends like this."""
        # What a client says of itself is written, unless it is in the arguments too; some tools take no text.
        headers = HEADERS if PLAIN in str(sent) else HIDDEN
        await self.ask(era, "tools/call", {"name": tool, "arguments": sent}, **headers, **{"x-outcome": end})

    async def cancel(self, era: Era) -> None:
        """Call every tool, and go away when all of them run."""
        before = self.holding()
        running = [asyncio.create_task(self.call(era, tool, sent, "hold")) for tool in TOOLS for sent in calls(tool)]
        async with asyncio.timeout(SECONDS):
            while self.holding() < before + sum(len(calls(tool)) for tool in OWN):
                await asyncio.sleep(0.01)
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            while "mcp_in_flight 0.0" not in await self.metrics():
                await asyncio.sleep(0.01)

    def holding(self) -> int:
        """Return how many calls have said that they wait."""
        return sum('"msg":"holding"' in line for line in self.server.lines)

    async def metrics(self) -> str:
        """Ask as Prometheus does."""
        return (await self.wire.get("/metrics", authorization=f"Bearer {PROBE_KEY}")).body.decode()


async def listening(url: str) -> None:
    """Wait until the server takes requests; below info it does not say so."""
    async with Wire(url) as wire, asyncio.timeout(SECONDS):
        while True:
            try:
                await wire.get("/livez")
            except httpx2.ConnectError:
                await asyncio.sleep(0.05)
            else:
                return


async def swept(level: str) -> None:
    """Fail when a value of any call, both eras, every tool and end, is in output, refusals, metrics or traces."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    with (
        collecting() as (endpoint, traces),
        Process(SCRIPT, **ROOM, MCP_LOG_LEVEL=level, PORT=str(port), OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as server,
    ):
        await listening(url)
        async with Wire(url, KEY) as wire:
            sweep = Sweep(wire, server)
            for era in ERAS:
                await sweep.provoke(era)
                await sweep.cancel(era)
            metrics = await sweep.metrics()
        assert server.stop() == 0
    output = "\n".join(server.lines)
    assert found_in(output) == []
    assert found_in("\n".join(sweep.told)) == []
    assert found_in(metrics) == []
    assert found_in(b"\n".join(traces).decode(errors="replace")) == []
    # It is silent about the values, not about the calls.
    assert len(sweep.told) > 40
    assert all(f"tools/call {tool}".encode() in b"".join(traces) for tool in TOOLS)
    assert ("mcp_log_fields_dropped_total 0.0" in metrics) is (level == "error")
    lines = [json.loads(line) for line in server.lines if line.startswith("{")]
    assert len(lines) == len(server.lines)
    if level in {"debug", "info"}:
        seen = {(line["tool_name"], line["era"], line["error_code"]) for line in lines if line["msg"] == "tool call"}
        ends = {*ENDS.values(), "cancelled", "invalid_input"}
        assert seen >= {(tool, era, end) for tool in OWN for era in ERAS for end in ends}
        assert {tool for tool, _, _ in seen} == TOOLS.keys()
    assert level == "error" or any(line["msg"] == "stray output" for line in lines)
    # What the first call has started writes for later ones, under nobody's name.
    assert level == "error" or any("principal" not in line for line in lines if ":write:" in line.get("where", ""))
