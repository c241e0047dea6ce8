# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""A verdict on a server from outside: the real protocol, in both eras, each step within a deadline.

One file that needs nothing but Python, to be copied to wherever the server should be looked at from:
`MCP_PROBE_KEY=… python probe.py https://mcp.example.com/mcp`. Hence its length.

All answers of one step are 4 MiB, 200,000 values and lines, 100 pages at most, counted on the wire; 16 interim answers
may precede each. A look takes no more than 96 MiB of memory, whatever comes.
Redirects are not followed: the key stays where it belongs.

Sources: MCP 2026-07-28 and 2025-11-25 (Transports, Lifecycle, Tools, Authorization), RFC 6750, RFC 9728.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import enum
import errno
import hashlib
import http.client
import io
import ipaddress
import itertools
import json
import os
import re
import signal
import socket
import ssl
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

Json = dict[str, Any]

CLIENT = {"name": "mcp-hardening-probe", "version": "1"}
MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
META = "io.modelcontextprotocol/"
ERAS = ("modern", "legacy")
# What a client or a model acts on. The rest of a tool (`_meta`, cache hints) may change at any time.
TOOL_FIELDS = ("name", "title", "description", "inputSchema", "outputSchema", "annotations", "icons")
MAX_ANSWER_BYTES = 4_194_304
MAX_PARTS = 200_000
MAX_INTERIM_ANSWERS = 16
MAX_PAGES = 100
MAX_WORDS = 300
DAY = 86_400


class Verdict(enum.IntEnum):
    """From good to bad: the worst of all steps is the verdict of the whole."""

    HEALTHY = 0
    DEGRADED = 1
    DRIFTED = 2
    AUTH_REFUSED = 3
    UNPROTECTED = 4
    MCP_DEAD = 5
    DOWN = 6

    @property
    def words(self) -> str:
        """The verdict as people read it."""
        return "HTTP alive, MCP dead" if self is Verdict.MCP_DEAD else self.name.lower().replace("_", " ")

    @property
    def exit_code(self) -> int:
        """0: it serves, though somebody may have to look; 1: it does not; 2 is left to wrong usage."""
        return (0, 0, 4, 3, 1, 1, 1)[self]

    @property
    def serves(self) -> bool:
        """Whether clients get service; another contract than the released one is service too."""
        return self <= Verdict.DRIFTED


class Problem(Exception):  # noqa: N818 - a finding, not an error of this program
    """Ends a conversation with a verdict; the text says what was seen."""

    def __init__(self, verdict: Verdict, words: str) -> None:
        super().__init__(words)
        self.verdict = verdict


@dataclass(frozen=True)
class Target:
    """What to ask, with which credential, and what to expect."""

    url: str
    key: str = field(default="", repr=False)
    eras: tuple[str, ...] = ERAS
    timeout_seconds: float = 10
    snapshot: Json | None = None
    call: str = ""
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time


@dataclass(frozen=True)
class Step:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    latency_ms: float
    words: str


@dataclass
class Era:
    """What one era of the protocol answered."""

    name: str
    steps: list[Step] = field(default_factory=list[Step])
    protocol_version: str = ""
    server: str = ""
    tools: int = 0
    tools_sha256: str = ""
    certificate_expires: float | None = None
    certificate_issued: float | None = None

    @property
    def verdict(self) -> Verdict:
        """The verdict of the worst step."""
        return max((step.verdict for step in self.steps), default=Verdict.HEALTHY)


@dataclass(frozen=True)
class Report:
    """One look at a server."""

    url: str
    time: float
    eras: tuple[Era, ...]
    credential_expires: float | None

    @property
    def verdict(self) -> Verdict:
        """The verdict of the worse era."""
        return max(era.verdict for era in self.eras)

    @property
    def words(self) -> str:
        """Each problem once, with the eras that have it."""
        found: dict[str, list[str]] = {}
        for era in self.eras:
            for step in filter(lambda step: step.verdict, era.steps):
                found.setdefault(f"{step.name}: {step.words}", []).append(era.name)
        return "; ".join(f"{' and '.join(eras)}, {problem}" for problem, eras in found.items())


# --- The contract, in the same canonical form as the committed schema/tools.json --------------------


def contract(tools: Iterable[Json]) -> list[Json]:
    """Return tools by name, without what may change from answer to answer."""
    kept = [{name: tool[name] for name in TOOL_FIELDS if tool.get(name) is not None} for tool in tools]
    return sorted(kept, key=lambda tool: tool["name"])


def digest(tools: Iterable[Json]) -> str:
    """Return the SHA-256 of tools in canonical form, in hexadecimal."""
    text = json.dumps(contract(tools), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(expected: Iterable[Json], live: Iterable[Json]) -> str:
    """Name the tools that were removed, added or changed; `""` when the contract is kept."""
    was, now = ({tool["name"]: tool for tool in contract(tools)} for tools in (expected, live))
    changed = [
        f"{name} ({', '.join(part for part in TOOL_FIELDS if was[name].get(part) != now[name].get(part))})"
        for name in sorted(was.keys() & now.keys())
        if digest([was[name]]) != digest([now[name]])
    ]
    groups = {"removed": sorted(was.keys() - now.keys()), "added": sorted(now.keys() - was.keys()), "changed": changed}
    return "; ".join(f"{what} {', '.join(names)}" for what, names in groups.items() if names)


def mapping(value: object, what: str) -> Json:
    """Return a JSON object as such; anything else is a problem."""
    if not isinstance(value, dict):
        raise Problem(Verdict.MCP_DEAD, f"{what} is not an object")
    return cast("Json", value)


def tool_list(value: object) -> list[Json]:
    """Return a list of tools that a client can use; anything else is a problem."""
    if not isinstance(value, list):
        raise Problem(Verdict.MCP_DEAD, "tools is not a list")
    tools = [mapping(tool, "a tool") for tool in cast("list[object]", value)]
    if not all(isinstance(tool.get("name"), str) and isinstance(tool.get("inputSchema"), dict) for tool in tools):
        raise Problem(Verdict.MCP_DEAD, "a tool has no name or no input schema")
    if len({tool["name"] for tool in tools}) < len(tools):
        raise Problem(Verdict.MCP_DEAD, "two tools have the same name")
    return tools


# --- HTTP, one connection per request, so that each step meets the server as a stranger -------------


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytearray
    tls: ssl.SSLObject | None

    def answer(self, request_id: int, begin: int = 0) -> Json | None:
        """Return the JSON-RPC answer to a request, out of a JSON body or an event stream, from a byte of it on."""
        texts = [self.body[begin:].decode(errors="replace")]
        if self.streams:
            # Not str.splitlines, which also breaks at characters that JSON may contain.
            events = (re.split(r"\r\n|\n", event) for event in re.split(r"\r\n\r\n|\n\n", texts[0]))
            texts = ["\n".join(line[5:] for line in event if line.startswith("data:")) for event in events]
        for text in texts:
            try:
                message: object = json.loads(text)
            except (ValueError, RecursionError):
                continue
            # A refusal may come before the id was read (JSON-RPC 2.0, section 5).
            found = cast("Json", message) if isinstance(message, dict) else {}
            if found.get("id") == request_id or "error" in found:
                return found
        return None

    @property
    def streams(self) -> bool:
        """Whether the body is an event stream."""
        return self.headers.get_content_type() == "text/event-stream"

    def describe(self, message: Json | None = None) -> str:
        """Say what came instead of a result."""
        if message is not None and isinstance(message.get("error"), dict):
            return f"HTTP {self.status}, error {message['error'].get('code')}: {message['error'].get('message')}"
        if self.status == HTTPStatus.NOT_FOUND:
            return "HTTP 404: is the path of the URL right?"
        if location := self.headers.get("location"):
            return f"HTTP {self.status} to {location}: not followed"
        said_ok = self.status == HTTPStatus.OK
        return f"HTTP {self.status}" + (f", but {self.headers.get_content_type()} without an answer" if said_ok else "")


class Incoming:
    """What may still come in one step: heads, framing and bodies of all its answers."""

    def __init__(self) -> None:
        self._bytes_left = MAX_ANSWER_BYTES
        self._parts_left = MAX_PARTS

    async def count(self, piece: bytes) -> bytes:
        """Return a piece that has come, if it is not too much."""
        self._bytes_left -= len(piece)
        # Each JSON value, event and chunk follows one of these. The smallest cost most when they are parsed.
        self._parts_left -= sum(map(piece.count, (b",", b"[", b"{", b"\n")))
        if self._bytes_left < 0:
            raise Problem(Verdict.MCP_DEAD, "the answer is larger than 4 MiB")
        if self._parts_left < 0:
            raise Problem(Verdict.MCP_DEAD, "the answer has more than 200000 values and lines")
        # What is in the buffer already is read without waiting, and the deadline would not get its turn.
        await asyncio.sleep(0)
        return piece


async def fetch(  # noqa: PLR0913, PLR0917 - one for each part of a request
    url: str,
    method: str = "GET",
    headers: Json | None = None,
    body: bytes = b"",
    until: Callable[[Reply], bool] = lambda _: False,
    incoming: Incoming | None = None,
) -> Reply:
    """Send one request and read its answer to the end, or until it is enough. The caller sets the deadline."""
    incoming = incoming or Incoming()
    parts = urlsplit(url)
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or (443 if tls else 80), ssl=tls)
    try:
        lines = [f"{method} {urlunsplit(('', '', parts.path or '/', parts.query, ''))} HTTP/1.1"]
        fixed = {"Host": parts.netloc, "Content-Length": len(body), "Connection": "close", "Cache-Control": "no-store"}
        agent = {"User-Agent": "/".join(CLIENT.values()), "Accept-Encoding": "identity", "Accept": "application/json"}
        lines += [f"{name}: {value}" for name, value in (fixed | agent | (headers or {})).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await writer.drain()
        status, rest, heads = 0, b"", 0
        while status < HTTPStatus.OK:  # interim answers may precede the answer
            if heads > MAX_INTERIM_ANSWERS:
                raise ValueError(heads)
            start, _, rest = (await incoming.count(await reader.readuntil(b"\r\n\r\n"))).partition(b"\r\n")
            status, heads = int(start.removeprefix(b"HTTP/1.")[2:5]), heads + 1
        headers_of_answer = http.client.parse_headers(io.BytesIO(rest))
        reply = Reply(status, headers_of_answer, bytearray(), writer.get_extra_info("ssl_object"))
        chunked = "chunked" in reply.headers.get("transfer-encoding", "").lower()
        left = 0 if chunked else int(reply.headers.get("content-length", MAX_ANSWER_BYTES + 1))
        while not until(reply):
            if chunked and not left:
                left = int((await incoming.count(await reader.readline())).partition(b";")[0], 16)
            piece = await incoming.count(await reader.read(max(0, min(left, MAX_ANSWER_BYTES))))
            if not piece:
                break
            left -= len(piece)
            reply.body.extend(piece)
            if chunked and not left:
                await incoming.count(await reader.readexactly(2))
        return reply
    finally:
        writer.transport.abort()


def explain(error: Exception, seconds: float) -> str:
    """Say in a few words why there was no answer."""
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    if isinstance(error, ssl.SSLError):
        refused = isinstance(error, ssl.SSLCertVerificationError)
        return f"certificate refused: {error.verify_message}" if refused else f"TLS failed: {error.reason}"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    if f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "connection refused"
    if isinstance(error, EOFError | ConnectionError):
        return "the connection was closed before an answer"
    return str(error) if isinstance(error, OSError) else "what came back is not valid"


NO_ANSWER = (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError, http.client.HTTPException)


# --- One conversation: a client of one era, step by step --------------------------------------------


class Conversation:
    """Speaks to a server as a client of one era does, and notes what each step brought."""

    def __init__(self, target: Target, name: str) -> None:
        self.era = Era(name)
        self._target = target
        self._modern = name == "modern"
        self._ids = itertools.count(1)
        self._incoming = Incoming()
        self._notices: list[str] = []
        self._metadata_url = ""
        self._sessions: list[str] = []
        self._discovery: Json = {}
        self._tools: list[Json] = []
        self._restricted = False

    async def run(self) -> Era:
        """Take the steps up to the first that ends the conversation."""
        opening = self._discover if self._modern else self._initialize
        # With each step, the verdict in case nothing comes back that can be read.
        for name, action, unread in (
            ("connect", self._connect, Verdict.DOWN),
            ("no credential", self._without_credential, Verdict.MCP_DEAD),
            ("resource metadata", self._metadata, Verdict.DEGRADED),
            ("credential", self._credential, Verdict.AUTH_REFUSED),
            ("server/discover" if self._modern else "initialize", opening, Verdict.MCP_DEAD),
            ("tools/list", self._list, Verdict.MCP_DEAD),
            ("tools/call", self._call, Verdict.MCP_DEAD),
        ):
            if await self._step(name, action, unread) > Verdict.DEGRADED:
                break
        await self._step("end session", self._end_sessions, Verdict.DEGRADED)
        return self.era

    async def _step(self, name: str, action: Callable[[], Awaitable[str]], unread: Verdict) -> Verdict:
        self._notices, self._incoming, verdict = [], Incoming(), Verdict.HEALTHY
        started = self._target.clock()
        try:
            async with asyncio.timeout(self._target.timeout_seconds):
                words = await action()
        except Problem as problem:
            verdict, words = min(problem.verdict, unread), str(problem)
        except NO_ANSWER as error:
            verdict, words = unread, explain(error, self._target.timeout_seconds)
        latency_ms = round((self._target.clock() - started) * 1000, 1)
        verdict = max(verdict, Verdict.DEGRADED) if self._notices else verdict
        # A stranger's words end up on terminals and in alerts: one line, printable, short.
        words = "".join(letter if letter.isprintable() else " " for letter in "; ".join([*self._notices, words]))
        # A step that says nothing had nothing to do.
        if words := words.removesuffix("; "):
            shown = words if len(words) <= MAX_WORDS else f"{words[:MAX_WORDS]}…"
            self.era.steps.append(Step(name, verdict, latency_ms, shown))
        return verdict

    async def _connect(self) -> str:
        target = self._target
        # Any status will do: the question is whether somebody speaks HTTP at all.
        reply = await fetch(target.url, until=lambda _: True, incoming=self._incoming)
        if reply.tls is None:
            if target.key and not is_loopback(target.url):
                self._notices.append("the key travels in clear text: use https")
            return f"HTTP {reply.status}, no TLS"
        certificate = reply.tls.getpeercert() or {}
        begins, ends = (ssl.cert_time_to_seconds(str(certificate[end])) for end in ("notBefore", "notAfter"))
        self.era.certificate_issued, self.era.certificate_expires = begins, ends
        # Renewal is due at a third of the lifetime, long or short; at a sixth it has failed.
        if ends - target.now() < min(14 * DAY, (ends - begins) / 6):
            self._notices.append("renew the certificate")
        return f"HTTP {reply.status}, {reply.tls.version()}, certificate valid for {span(ends - target.now())}"

    async def _without_credential(self) -> str:
        opening = "server/discover" if self._modern else "initialize"
        reply, message = await self._post(opening, {} if self._modern else self._hello(), with_key=False)
        if reply.status == HTTPStatus.UNAUTHORIZED:
            challenge = ", ".join(reply.headers.get_all("www-authenticate", []))
            if not re.search(r"(?i)(^|,)\s*Bearer\b", challenge):
                self._notices.append("no WWW-Authenticate: Bearer")
            advertised = re.search(r'(?i)\bresource_metadata\s*=\s*"([!#-~]*)"', challenge)
            self._metadata_url = advertised[1] if advertised else ""
            return "HTTP 401"
        if message is None or "result" not in message:
            self._notices.append(f"HTTP {reply.status} instead of 401")
        elif self._target.key:
            raise Problem(Verdict.UNPROTECTED, "the server answers without a credential")
        else:
            self._notices.append("the server asks for no credential")
        return ""

    async def _metadata(self) -> str:
        url = self._metadata_url
        if not url:
            return ""
        # A server must not be able to point the probe at an address inside the probe's network.
        if urlsplit(url)[:2] != urlsplit(self._target.url)[:2]:
            raise Problem(Verdict.DEGRADED, f"at another origin, not read: {url}")
        reply = await fetch(url, incoming=self._incoming)
        if reply.status != HTTPStatus.OK:
            raise Problem(Verdict.DEGRADED, f"{reply.describe()} at {url}")
        document = mapping(json.loads(reply.body), "the document")
        issuers = document.get("authorization_servers")
        if document.get("resource") != self._target.url:
            self._notices.append(f"it is about another resource, {document.get('resource')}")
        if not isinstance(issuers, list) or not issuers:
            raise Problem(Verdict.DEGRADED, "it names no authorization server")
        return f"tokens from {', '.join(map(str, cast('list[object]', issuers)))}"

    async def _credential(self) -> str:
        expires = expiry(self._target.key)
        left = (expires or 0) - self._target.now()
        if expires is not None and left <= 0:
            raise Problem(Verdict.AUTH_REFUSED, f"MCP_PROBE_KEY expired {span(abs(left))} ago")
        if expires is not None and left < 3 * DAY:
            self._notices.append("renew MCP_PROBE_KEY")
        return "" if expires is None else f"MCP_PROBE_KEY expires in {span(left)}"

    async def _discover(self) -> str:
        result = await self._result("server/discover", {})
        versions = result.get("supportedVersions")
        if not isinstance(versions, list) or MODERN not in versions:
            raise Problem(Verdict.MCP_DEAD, f"supportedVersions is {versions}, without {MODERN}")
        self.era.protocol_version = MODERN
        info = mapping(result.get("_meta", {}), "_meta").get(f"{META}serverInfo")
        if info is None:
            # A modern server should say who it is, and need not.
            self._notices.append("serverInfo is missing")
            info = {"name": "unnamed", "version": "server"}
        return self._introduce(result, info)

    async def _initialize(self) -> str:
        reply, message = await self._post("initialize", self._hello())
        result = self._read(reply, message)
        version = result.get("protocolVersion")
        if version not in LEGACY:
            raise Problem(Verdict.MCP_DEAD, f"protocolVersion is {version}, none of {', '.join(LEGACY)}")
        self.era.protocol_version = str(version)
        words = self._introduce(result, result.get("serverInfo"))
        reply, message = await self._post("notifications/initialized", {})
        if reply.status not in {HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT}:
            raise Problem(Verdict.MCP_DEAD, f"notifications/initialized: {reply.describe(message)}")
        return words

    def _introduce(self, result: Json, server_info: object) -> str:
        info = mapping(server_info, "serverInfo")
        if not all(isinstance(info.get(part), str) and info[part] for part in ("name", "version")):
            raise Problem(Verdict.MCP_DEAD, "serverInfo lacks name or version")
        capabilities = mapping(result.get("capabilities"), "capabilities")
        for name, value in capabilities.items():
            mapping(value, f"capability {name}")
        if "tools" not in capabilities:
            raise Problem(Verdict.MCP_DEAD, "capabilities lack tools")
        self._discovery = {"capabilities": capabilities, "instructions": result.get("instructions")}
        self.era.server = f"{info['name']} {info['version']}"[:MAX_WORDS]
        return f"{self.era.server}, protocol {self.era.protocol_version}"

    async def _list(self) -> str:
        cursor: object = None
        for _ in range(MAX_PAGES):
            result = await self._result("tools/list", {} if cursor is None else {"cursor": cursor})
            self._tools = tool_list([*self._tools, *tool_list(result.get("tools"))])
            self._restricted = mapping(result.get("_meta") or {}, "_meta").get("hardening/restricted") is True
            if self._modern and not {"ttlMs", "cacheScope"} <= result.keys():
                self._notices = ["ttlMs or cacheScope is missing, and some clients insist"]
            if (cursor := result.get("nextCursor")) is None:
                break
        else:
            raise Problem(Verdict.MCP_DEAD, f"more than {MAX_PAGES} pages")
        if not self._tools:
            raise Problem(Verdict.MCP_DEAD, "the list is empty")
        self.era.tools, self.era.tools_sha256 = len(self._tools), digest(self._tools)
        if drift := self._drift():
            raise Problem(Verdict.DRIFTED, drift)
        number = f"{self.era.tools} {'tool' if self.era.tools == 1 else 'tools'}"
        restricted = " (restricted)" if self._restricted else ""
        return f"{number}{restricted}, sha256 {self.era.tools_sha256[:12]}"

    def _drift(self) -> str:
        snapshot = self._target.snapshot
        if snapshot is None:
            return ""
        listed = {tool["name"] for tool in self._tools}
        # What the operator has switched off is no drift; what is served must be as published.
        published = [tool for tool in snapshot["tools"] if not self._restricted or tool["name"] in listed]
        drift = [differences(published, self._tools)]
        # A legacy server words its capabilities differently; the snapshot holds the modern ones.
        if self._modern and "discovery" in snapshot:
            expected = mapping(snapshot["discovery"], "discovery")
            drift += [f"changed {part}" for part, now in self._discovery.items() if expected.get(part) != now]
        return "; ".join(filter(None, drift))

    async def _call(self) -> str:
        name = self._target.call
        if not name:
            return ""
        hints = [tool.get("annotations") for tool in self._tools if tool["name"] == name]
        if not hints or mapping(hints[0] or {}, "annotations").get("readOnlyHint") is not True:
            raise Problem(Verdict.DRIFTED, f"{name} was not called: no such tool is declared read-only")
        result = await self._result("tools/call", {"name": name, "arguments": {}})
        if result.get("isError") or result.get("resultType", "complete") != "complete":
            raise Problem(Verdict.MCP_DEAD, f"{name} failed")
        return f"{name} answered"

    async def _end_sessions(self) -> str:
        for session in self._sessions:
            version = self.era.protocol_version or LEGACY[0]
            headers = self._authorization() | {"Mcp-Session-Id": session, "MCP-Protocol-Version": version}
            reply = await fetch(self._target.url, "DELETE", headers, until=lambda _: True, incoming=self._incoming)
            # 404: it is gone already; 405: this server ends sessions by itself.
            gone = reply.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
            if reply.status >= HTTPStatus.MULTIPLE_CHOICES and not gone:
                raise Problem(Verdict.DEGRADED, f"HTTP {reply.status}: the session stays open")
        return "ended" if self._sessions else ""

    def _hello(self) -> Json:
        return {"protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": CLIENT}

    def _authorization(self) -> Json:
        return {"Authorization": f"Bearer {self._target.key}"} if self._target.key else {}

    async def _post(self, method: str, params: Json, *, with_key: bool = True) -> tuple[Reply, Json | None]:
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if with_key:
            headers |= self._authorization()
        if self._modern:
            headers |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
            headers |= {"Mcp-Name": params["name"]} if "name" in params else {}
            client = {"protocolVersion": MODERN, "clientCapabilities": {}, "clientInfo": CLIENT}
            params = params | {"_meta": {META + name: value for name, value in client.items()}}
        elif method != "initialize":
            headers |= {"MCP-Protocol-Version": self.era.protocol_version}
            headers |= {"Mcp-Session-Id": self._sessions[-1]} if self._sessions else {}
        request_id = next(self._ids)
        message: Json = {"jsonrpc": "2.0", "method": method, "params": params}
        if not method.startswith("notifications/"):
            message["id"] = request_id

        read = 0

        def answered(reply: Reply) -> bool:
            nonlocal read
            # A stream need not end with the answer; whoever waits for its end may wait for ever.
            if not reply.streams or not reply.body.endswith((b"\n\n", b"\r\n\r\n")):
                return False
            # Each event is read once, in however many pieces they come.
            begin, read = read, len(reply.body)
            return reply.answer(request_id, begin) is not None

        body = json.dumps(message).encode()
        reply = await fetch(self._target.url, "POST", headers, body, until=answered, incoming=self._incoming)
        session = reply.headers.get("mcp-session-id", "")
        if method == "initialize" and re.fullmatch(r"[!-~]+", session):
            self._sessions.append(session)
        return reply, reply.answer(request_id)

    def _read(self, reply: Reply, message: Json | None) -> Json:
        if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            refused = "MCP_PROBE_KEY was refused" if self._target.key else "set MCP_PROBE_KEY"
            raise Problem(Verdict.AUTH_REFUSED, f"HTTP {reply.status}: {refused}")
        if message is None or "result" not in message:
            raise Problem(Verdict.MCP_DEAD, reply.describe(message))
        return mapping(message["result"], "result")

    async def _result(self, method: str, params: Json) -> Json:
        return self._read(*await self._post(method, params))


async def probe(target: Target) -> Report:
    """Look at a server once, in one era after the other."""
    eras = [await Conversation(target, name).run() for name in target.eras]
    seen = {(era.server, era.tools_sha256) for era in eras if era.tools_sha256}
    if len(seen) > 1:
        words = "server or tools are not those of the other era"
        eras[-1].steps.append(Step("same server", Verdict.DEGRADED, 0, words))
    return Report(target.url, target.now(), tuple(eras), expiry(target.key))


def expiry(token: str) -> float | None:
    """Return when a JWT expires, in Unix seconds, unverified; None for any other credential."""
    try:
        payload = token.split(".")[1]
        claims: object = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return None
    expires = cast("Json", claims).get("exp") if isinstance(claims, dict) else None
    return float(expires) if isinstance(expires, int | float) else None


def is_loopback(url: str) -> bool:
    """Return whether a URL leads to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# --- What people and machines read ------------------------------------------------------------------


def span(seconds: float) -> str:
    """Return a duration in the largest unit of which there are two."""
    units = ((DAY, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
    length, unit = next((unit for unit in units if seconds >= 2 * unit[0]), units[-1])
    return f"{seconds / length:.0f} {unit}"


def timestamp(seconds: float) -> str:
    """Return Unix seconds as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def as_json(report: Report) -> Json:
    """Return a report as `--json` and the webhook write it; expiries are in Unix seconds."""

    def named(thing: Era | Report | Step) -> Json:
        return vars(thing) | {"verdict": thing.verdict.name.lower()}

    eras = {era.name: named(era) | {"steps": [named(step) for step in era.steps]} for era in report.eras}
    told = {"time": timestamp(report.time), "words": report.words, "exit_code": report.verdict.exit_code}
    return named(report) | told | {"eras": eras}


def paint(verdict: Verdict, text: str) -> str:
    """Colour a text by a verdict, on a terminal whose user has not asked for plain text."""
    colors = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\x1b[{(32, 33, 31)[min(verdict, 2)]}m{text}\x1b[0m" if colors else text


def as_page(report: Report, remark: str) -> str:
    """Return a report as a page: each step of each era, then the verdict with a remark."""
    lines = [report.url]
    for era in report.eras:
        lines += ["", f"{era.name:6}  {paint(era.verdict, era.verdict.words)}"]
        for step in era.steps:
            mark = paint(step.verdict, ("ok  ", "look", "FAIL")[min(step.verdict, 2)])
            lines.append(f"  {mark}  {step.name:<17}  {step.latency_ms:>6.0f} ms  {step.words}")
    return "\n".join([*lines, "", f"{paint(report.verdict, report.verdict.words)} {remark}", ""])


def as_line(report: Report) -> str:
    """Return a report as one line."""
    times = ", ".join(f"{era.name} {sum(step.latency_ms for step in era.steps):.0f} ms" for era in report.eras)
    return f"{report.verdict.words}: {report.words or times}"


def as_metrics(report: Report) -> str:
    """Return a report in the text format of Prometheus, for node_exporter's textfile collector."""
    families: dict[str, list[str]] = {}

    def add(name: str, value: float | None, **labels: str) -> None:
        if value is not None:
            # JSON escapes what the text format wants escaped, and in the same way.
            shown = ",".join(f"{label}={json.dumps(text)}" for label, text in ({"url": report.url} | labels).items())
            families.setdefault(f"mcp_probe_{name}", []).append(f"{{{shown}}} {float(value)!r}")

    add("last_run_timestamp_seconds", report.time)
    add("credential_expires_timestamp_seconds", report.credential_expires)
    for era in report.eras:
        add("serving", era.verdict.serves, era=era.name)
        for verdict in Verdict:
            add("verdict", era.verdict is verdict, era=era.name, verdict=verdict.name.lower())
        for step in era.steps:
            add("step_seconds", step.latency_ms / 1000, era=era.name, step=step.name)
        add("certificate_issued_timestamp_seconds", era.certificate_issued, era=era.name)
        add("certificate_expires_timestamp_seconds", era.certificate_expires, era=era.name)
        add("tools", era.tools, era=era.name, sha256=era.tools_sha256)
    return "".join(
        f"# TYPE {name} gauge\n" + "".join(f"{name}{sample}\n" for sample in samples)
        for name, samples in families.items()
    )


# --- Once, until it serves, or for ever --------------------------------------------------------------


def wait_for(target: Target, seconds: float) -> Report:
    """Probe until the server serves; the last attempt starts when the time is over."""
    started, attempt, pause = target.clock(), 0, 1.0
    while True:
        report = asyncio.run(probe(target))
        attempt += 1
        passed = target.clock() - started
        done = report.verdict.exit_code == 0 or passed >= seconds
        pause = min(pause, seconds - passed)
        if seconds:
            again = "" if done else f"; again in {pause:.1f} s"
            sys.stderr.write(f"attempt {attempt}, after {passed:.0f} s: {as_line(report)}{again}\n")
        if done:
            return report
        time.sleep(pause)
        pause = min(2 * pause, 15)


def watch(target: Target, arguments: argparse.Namespace) -> int:
    """Probe at an even pace until interrupted, and tell a webhook each change of verdict."""
    # As the first process of a container, this one would not hear SIGTERM otherwise.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    history: deque[Verdict] = deque(maxlen=60)
    looks, served, since, announced = 0, 0, target.clock(), Verdict.HEALTHY
    while True:
        started, trouble = target.clock(), ""
        try:
            report = asyncio.run(probe(target))
            since = since if not history or history[-1] is report.verdict else started
            history.append(report.verdict)
            looks, served = looks + 1, served + report.verdict.serves
            if arguments.webhook and report.verdict is not announced:
                # What could not be told is told again with the next look.
                trouble = asyncio.run(announce(arguments.webhook, report, announced, target.timeout_seconds))
                announced = announced if trouble else report.verdict
            publish(report, arguments)
            if sys.stdout.isatty() and not arguments.json:
                bars = "".join(paint(verdict, "▁▄█"[min(verdict, 2)]) for verdict in history)
                remark = f"for {span(target.clock() - since)}; {served} of {looks} looks found it serving"
                pace = f"every {arguments.every:g} s, last at {timestamp(report.time)}"
                page = f"{as_page(report, remark)}{bars}\n{pace}\n{trouble}"
                emit(("\x1b[2J" if looks == 1 else "") + "\x1b[H" + page.replace("\n", "\x1b[K\n") + "\x1b[J")
            elif trouble:
                sys.stderr.write(f"{trouble}\n")
            time.sleep(max(0, started + arguments.every - target.clock()))
        except KeyboardInterrupt:
            return history[-1].exit_code if history else 1


async def announce(webhook: str, report: Report, was: Verdict, seconds: float) -> str:
    """Post a report to a webhook; return what went wrong, without the address, which may be a secret."""
    text = f"{report.url}: {was.words}, now {as_line(report)}"
    body = json.dumps({"text": text, "previous": was.name.lower(), "report": as_json(report)}).encode()
    try:
        async with asyncio.timeout(seconds):
            reply = await fetch(webhook, "POST", {"Content-Type": "application/json"}, body, until=lambda _: True)
    except NO_ANSWER as error:
        return f"webhook: {explain(error, seconds)}"
    return "" if reply.status < HTTPStatus.MULTIPLE_CHOICES else f"webhook: {reply.describe()}"


def publish(report: Report, arguments: argparse.Namespace) -> None:
    """Write a report to where the arguments say: standard output, and a file in one move."""
    if arguments.textfile:
        draft = Path(f"{arguments.textfile}.new")
        try:
            draft.write_text(as_metrics(report), encoding="utf-8")
            draft.replace(arguments.textfile)
        except OSError as error:
            sys.stderr.write(f"--textfile {arguments.textfile}: {error.strerror}\n")
    if arguments.json:
        emit(f"{json.dumps(as_json(report))}\n")
    elif not arguments.every:
        emit(as_page(report, f"(exit code {report.verdict.exit_code})"))
    elif not sys.stdout.isatty():
        emit(f"{timestamp(report.time)} {as_line(report)}\n")


def emit(text: str) -> None:
    """Write to standard output at once; what its encoding lacks becomes a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


# --- The command line --------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="probe",
        description="Look at an MCP server from outside, as a client of each era would.",
        epilog="The key comes from MCP_PROBE_KEY; with --call it must be one that may call tools. "
        "SSL_CERT_FILE names a private certificate authority. "
        "Exit codes: 0 healthy or degraded, 1 unhealthy, 2 wrong usage, 3 credential refused, 4 schema drift.",
    )
    parser.add_argument("url", type=_url, metavar="URL", help="e.g. https://mcp.example.com/mcp")
    parser.add_argument("--era", type=_eras, default=ERAS, metavar="ERAS", help="modern,legacy (both) or one of them")
    parser.add_argument("--schema", type=_snapshot, metavar="FILE", help="compare the tools with schema/tools.json")
    parser.add_argument("--call", type=_tool, metavar="TOOL", help="call a read-only tool without arguments")
    parser.add_argument("--timeout", type=_seconds, default=10, metavar="SECONDS", help="deadline of each step (10)")
    often = parser.add_mutually_exclusive_group()
    often.add_argument("--wait", type=_seconds, default=0, metavar="SECONDS", help="try again until it serves")
    often.add_argument(
        "--every", type=_seconds, default=0, metavar="SECONDS", help="look again and again, as a small monitor"
    )
    parser.add_argument("--webhook", type=_url, metavar="URL", help="with --every: tell each change of the verdict")
    parser.add_argument("--textfile", metavar="FILE", help="write metrics for Prometheus, e.g. mcp_probe.prom")
    parser.add_argument("--json", action="store_true", help="write one line of JSON for each look")
    given = parser.parse_args(argv)
    key = os.environ.get("MCP_PROBE_KEY", "")
    if not re.fullmatch(r"[!-~]*", key):
        parser.error("MCP_PROBE_KEY must be printable ASCII without spaces and line breaks")
    if given.webhook and not given.every:
        parser.error("--webhook needs --every: one look sees no change")
    target = Target(given.url, key, given.era, given.timeout, given.schema, given.call or "")
    if given.every:
        return watch(target, given)
    report = wait_for(target, given.wait)
    publish(report, given)
    return report.verdict.exit_code


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and parts.username is None
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", text):
        raise argparse.ArgumentTypeError(
            "needs http:// or https://, a host, and no user, e.g. https://mcp.example.com/mcp"
        )
    return text


def _eras(text: str) -> tuple[str, ...]:
    if not text or set(names := text.split(",")) - set(ERAS):
        raise argparse.ArgumentTypeError("knows modern and legacy, e.g. modern,legacy")
    return tuple(dict.fromkeys(names))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0.1 <= seconds <= DAY:  # noqa: PLR2004
        raise argparse.ArgumentTypeError("needs seconds, from 0.1 to 86400")
    return seconds


def _tool(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", text):
        raise argparse.ArgumentTypeError("needs the name of a tool")
    return text


def _snapshot(text: str) -> Json:
    try:
        snapshot = mapping(json.loads(Path(text).read_text(encoding="utf-8")), "it")
        tool_list(snapshot.get("tools"))
    except (OSError, ValueError, RecursionError, Problem) as error:
        raise argparse.ArgumentTypeError(f"cannot use {text}: {error}; `schema write` makes it") from error
    return snapshot


if __name__ == "__main__":
    raise SystemExit(main())
