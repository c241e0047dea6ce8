"""Raw requests in both eras: what a client sends, and what came back, without any client library."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import httpx2

Era = Literal["modern", "legacy"]
ERAS: tuple[Era, ...] = ("modern", "legacy")
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "wire", "version": "1"},
}
NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
SECONDS = float(os.environ.get("TEST_WAIT_SECONDS", "60"))


@dataclass(slots=True)
class Reply:
    """One HTTP answer, with every JSON-RPC message in it."""

    status: int
    headers: httpx2.Headers
    body: bytes
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def message(self) -> dict[str, Any]:
        """The last message: the answer."""
        return self.messages[-1]

    @property
    def result(self) -> dict[str, Any]:
        """The result of the answer."""
        return self.message["result"]

    @property
    def error(self) -> dict[str, Any]:
        """The error of the answer."""
        return self.message["error"]

    @property
    def notifications(self) -> list[dict[str, Any]]:
        """What came before the answer."""
        return [message for message in self.messages if "method" in message]

    @property
    def text(self) -> str:
        """The text of a tool's result."""
        return self.result["content"][0]["text"]


def request(
    era: Era, method: str, params: dict[str, Any] | None = None, *, rpc_id: Any = 1, key: str = ""
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of one request as a good client of that era sends it."""
    params = dict(params or {})
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    if era == "modern":
        headers |= {"mcp-protocol-version": MODERN, "mcp-method": method}
        if method in NAMED_BY:
            headers["mcp-name"] = str(params.get(NAMED_BY[method], ""))
        params["_meta"] = {**META, **params.get("_meta", {})}
    elif method != "initialize":
        headers["mcp-protocol-version"] = LEGACY
    message = {"jsonrpc": "2.0", "id": rpc_id, "method": method, "params": params}
    return headers, json.dumps(message).encode()


def opening(era: Era) -> tuple[str, dict[str, Any]]:
    """Return the method and parameters that a client of that era opens with."""
    if era == "modern":
        return "server/discover", {}
    client = {"name": "wire", "version": "1"}
    return "initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client}


def read(status: int, headers: httpx2.Headers, body: bytes) -> Reply:
    """Read an answer: JSON, an event stream, or neither."""
    kind = headers.get("content-type", "")
    messages: list[dict[str, Any]] = []
    if kind.startswith("text/event-stream"):
        lines = body.decode().splitlines()
        messages = [json.loads(line[5:]) for line in lines if line.startswith("data:") and line[5:].strip()]
    elif kind.startswith("application/json") and body:
        messages = [json.loads(body)]
    return Reply(status, headers, body, messages)


async def begin_call(
    url: str, era: Era, name: str, arguments: dict[str, Any], key: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a call of a tool on a connection of its own, and do not wait for the answer."""
    headers, body = request(era, "tools/call", {"name": name, "arguments": arguments}, key=key)
    host = url.removeprefix("http://")
    head = {"host": host, "content-length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + body)
    return reader, writer


class Wire:
    """A client that sends exactly what it is told to."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url
        self.key = key
        self.http = httpx2.AsyncClient(timeout=SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def ask(  # noqa: PLR0913 - each is one part of a request
        self,
        era: Era,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        rpc_id: Any = 1,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """Send one request and wait for the whole answer."""
        usual, body = request(era, method, params, rpc_id=rpc_id, key=self.key if key is None else key)
        return await self.send(body, {**usual, **(headers or {})})

    async def call(self, era: Era, tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> Reply:
        """Call a tool."""
        return await self.ask(era, "tools/call", {"name": tool, "arguments": arguments or {}}, **more)

    async def send(self, body: bytes, headers: dict[str, str], *, method: str = "POST", path: str = "/mcp") -> Reply:
        """Send anything."""
        answer = await self.http.request(method, f"{self.url}{path}", content=body, headers=headers)
        return read(answer.status_code, answer.headers, answer.content)

    async def get(self, path: str, **headers: str) -> Reply:
        """GET a path."""
        return await self.send(b"", headers, method="GET", path=path)
