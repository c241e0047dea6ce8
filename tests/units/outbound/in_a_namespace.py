"""Runs in a network namespace in which every address is this machine: what gets through is counted there."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3] / "template/tests/support"))

import alias

alias.install()

from live import ENVIRONMENT, settings_from

from hardening.errors import ToolFailure
from hardening.outbound.client import Outbound

INSIDE = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "localhost",
    "LOCALHOST.",
    "127.1",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "2130706433",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "168.63.129.16",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[2001:db8::1]",
    "[fe80::1%25lo]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "inside.test",
    "INSIDE.test.",
    "inside6.test",
    "①②⑦.⓪.⓪.①",
]
ANSWERS = {
    b"\x06inside\x04test\x00": {1: socket.inet_aton("10.1.2.3")},
    b"\x07inside6\x04test\x00": {28: socket.inet_pton(socket.AF_INET6, "fd00::1")},
    b"\x07outside\x04test\x00": {1: socket.inet_aton("9.9.9.9")},
    b"\x07allowed\x04test\x00": {1: socket.inet_aton("10.7.7.7")},
}


class Dns(asyncio.DatagramProtocol):
    """Answers a question with one address, or with none."""

    def connection_made(self, transport: Any) -> None:
        """Keep the socket."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer."""
        end = data.index(b"\x00", 12) + 1
        kind = struct.unpack(">H", data[end : end + 2])[0]
        address = ANSWERS.get(data[12:end].lower(), {}).get(kind)
        question = data[12 : end + 4]
        head = data[:2] + struct.pack(">HHHHH", 0x8180, 1, 1 if address else 0, 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(address)) + address if address else b""
        self.transport.sendto(head + question + record, addr)


class Call:
    """A call with ten seconds left."""

    def remaining_seconds(self) -> float:
        """Return them."""
        return 10


async def main() -> dict[str, Any]:
    """Try every spelling, and return what got through."""
    hits: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        hits.append(head.split("\r\n")[0])
        target = "http://169.254.169.254/redirected"
        moved = f"HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        fine = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
        writer.write((moved if "/moved" in head else fine).encode())
        writer.close()

    server = await asyncio.start_server(serve, ["0.0.0.0", "::"], 80)
    dns, _ = await asyncio.get_running_loop().create_datagram_endpoint(Dns, local_addr=("127.0.0.1", 53))
    outcomes: dict[str, str] = {}

    async def attempt(name: str, url: str, outbound: Outbound) -> None:
        before = len(hits)
        try:
            async with asyncio.timeout(8):
                answer = await outbound.client(Call()).get(url, follow_redirects=True)
            outcome = str(answer.status_code)
        except ToolFailure as failure:
            outcome = failure.kind
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at its name
            outcome = type(error).__name__
        outcomes[name] = f"{outcome}, {len(hits) - before} reached"

    guarded = Outbound(settings_from(ENVIRONMENT), lambda *_: None)
    for host in INSIDE:
        await attempt(host, f"http://{host}/", guarded)
    await attempt("outside", "http://outside.test/", guarded)
    await attempt("redirect", "http://outside.test/moved", guarded)
    allowing = Outbound(settings_from(ENVIRONMENT | {"MCP_HTTP_ALLOW": "allowed.test,10.1.0.0/16"}), lambda *_: None)
    await attempt("allowed name", "http://allowed.test/", allowing)
    await attempt("allowed network", "http://inside.test/", allowing)
    await attempt("beside the allowed", "http://10.2.0.1/", allowing)
    await guarded.aclose()
    await allowing.aclose()
    dns.close()
    server.close()
    return outcomes


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main())))  # noqa: T201 - read by the test
