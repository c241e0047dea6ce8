"""Both shipped proxies: valid, two public paths, true addresses, refusals that MCP clients understand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml
from support.programs import find, run
from support.proxies import KINDS, Kind, Proxy, Upstream, begin_stream, free_port, send_event

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MIB = 1024**2
# Until a proxy has read that an idle connection was closed; a call that is sent before that is told `interrupted`.
NOTICED = 0.2
Make = Callable[..., Proxy]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which of the two."""
    return request.param


@pytest.fixture
def make(kind: Kind, project: Path, tmp_path: Path) -> Make:
    """Return the proxy in front of the given upstreams."""

    def maker(*upstreams: str, **options: Any) -> Proxy:
        return Proxy(kind, project / "deploy", tmp_path, list(upstreams), **options)

    return maker


def test_the_shipped_files_are_valid(make: Make) -> None:
    """The proxy's own check accepts them."""
    proxy = make("127.0.0.1:1")

    done = run(*proxy.check, env=proxy.environment)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_caddyfile_is_formatted(project: Path) -> None:
    """Caddy's formatter changes nothing."""
    done = run(find("caddy"), "fmt", "--diff", project / "deploy/caddy/Caddyfile")

    changed = [line for line in done.stdout.splitlines() if line[:1] in {"+", "-"}]
    assert changed == []


def test_caddy_by_itself_needs_no_setting(project: Path) -> None:
    """As in the Compose file: without the variables it serves localhost."""
    file = project / "deploy/caddy/Caddyfile"

    done = run(find("caddy"), "adapt", "--config", file, "--adapter", "caddyfile")

    assert done.returncode == 0, done.stderr
    adapted = json.dumps(json.loads(done.stdout))
    assert '"host": ["localhost"]' in adapted
    assert '"dial": "server:8000"' in adapted


def test_the_author_adds_a_site(project: Path, tmp_path: Path) -> None:
    """A file in sites/ is served beside ours, and ours is not edited."""
    proxy = Proxy("caddy", project / "deploy", tmp_path, ["127.0.0.1:1"])
    (proxy.folder / "sites/status.caddy").write_text("https://status.example.com {\n\trespond ok\n}\n")
    arguments = ("--config", proxy.folder / "Caddyfile", "--adapter", "caddyfile")

    done = run(find("caddy"), "adapt", *arguments, env=proxy.environment)

    assert done.returncode == 0, done.stderr
    assert "status.example.com" in done.stdout


async def test_two_paths_are_public(make: Make) -> None:
    """Health and metrics, and whatever else there may be, stay inside."""
    async with Upstream() as upstream, make(upstream.address) as proxy, proxy.client() as client:
        for path in ("/livez", "/readyz", "/metrics", "/", "/mcp/", "/mcp/x", "/mcp%2Fx", "//mcp"):
            assert (await client.get(path)).status_code == 404, path
        assert upstream.calls == []

        for path in ("/mcp", "/.well-known/oauth-protected-resource/mcp", "/mcp?x=1"):
            assert (await client.get(path)).status_code == 200, path
        assert len(upstream.calls) == 3


async def test_the_server_learns_the_true_address(make: Make) -> None:
    """One entry, written by the proxy, whatever the client claims: MCP_TRUSTED_PROXY_HOPS=1."""
    forged = {"x-forwarded-for": "192.0.2.1, 192.0.2.2", "x-forwarded-proto": "gopher", "forwarded": "for=192.0.2.3"}
    async with Upstream() as upstream, make(upstream.address) as proxy, proxy.client() as client:
        await client.post("/mcp", headers=forged, content=b"{}")

        (seen,) = upstream.calls
        assert seen.headers["x-forwarded-for"] == "127.0.0.1"
        assert seen.headers["x-forwarded-proto"] == "https"
        assert seen.headers["host"] == f"localhost:{proxy.port}"
        assert "192.0.2" not in seen.headers.get("forwarded", "")


# What the operator says of a CDN in front; here it is the client of the test.
TRUSTED: dict[Kind, dict[str, Any]] = {
    "caddy": {"environment": {"MCP_TRUSTED_PROXIES": "127.0.0.0/8 203.0.113.0/24"}},
    "nginx": {
        "changes": {
            r"# set_real_ip_from 192\.0\.2\.0/24;": "set_real_ip_from 127.0.0.0/8; set_real_ip_from 203.0.113.0/24;"
        }
    },
}


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        # What the client made up stands to the left of what the CDN saw.
        ("192.0.2.66, 198.51.100.7", "198.51.100.7"),
        ("198.51.100.7, 203.0.113.9", "198.51.100.7"),
        ("2001:db8::7", "2001:db8::7"),
        # As Azure and others write it.
        ("192.0.2.66, 198.51.100.7:51007", "198.51.100.7"),
        ("[2001:db8::7]:443, 203.0.113.9:443", "2001:db8::7"),
        ("2001:DB8::7", "2001:db8::7"),
        # What is no address counts as the proxy's that wrote it, and what stands left of it is the client's own word.
        ("unknown", "127.0.0.1"),
        ("192.0.2.66, unknown", "127.0.0.1"),
        ("192.0.2.66, _hidden", "127.0.0.1"),
        ('192.0.2.66, "198.51.100.7"', "127.0.0.1"),
        ("192.0.2.66, [2001:db8::7]", "127.0.0.1"),
        ("192.0.2.66, 2001:db8::7:51007", "127.0.0.1"),
        # Wherever a client writes such a word, it changes nothing.
        ("unknown, 198.51.100.7", "198.51.100.7"),
        ("_hidden, 198.51.100.7:51007, 203.0.113.9", "198.51.100.7"),
        ("unknown, 2001:DB8::7", "2001:db8::7"),
    ],
)
async def test_a_cdn_in_front_changes_one_line(make: Make, kind: Kind, said: str, address: str) -> None:
    """Named once, the CDN's entry is believed, still as one entry: clients of one edge share no bucket."""
    async with Upstream() as upstream, make(upstream.address, **TRUSTED[kind]) as proxy, proxy.client() as client:
        await client.post("/mcp", headers={"x-forwarded-for": said}, content=b"{}")

        (seen,) = upstream.calls
        assert seen.headers["x-forwarded-for"] == address


async def test_what_a_trusted_proxy_hides_is_not_the_client_to_say(make: Make, kind: Kind) -> None:
    """Two of yours in a row, and the outer one wrote no address: one of yours counts, never what the client wrote."""
    async with Upstream() as upstream, make(upstream.address, **TRUSTED[kind]) as proxy, proxy.client() as client:
        for said in ("192.0.2.66, unknown, 203.0.113.9", "3.0.113.9, unknown, 203.0.113.9"):
            await client.post("/mcp", headers={"x-forwarded-for": said}, content=b"{}")

        assert {seen.headers["x-forwarded-for"] for seen in upstream.calls} <= {"127.0.0.1", "203.0.113.9"}


class BehindTcp(Proxy):
    """A proxy behind a balancer: nginx takes no connection without the PROXY protocol, so nobody asks it for a page."""

    async def _listens(self) -> bool:
        if self.kind == "caddy":
            return await super()._listens()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@pytest.mark.parametrize("client", ["203.0.113.7", "2001:db8::7"])
async def test_a_balancer_that_passes_tcp_on_names_the_client(
    kind: Kind, client: str, project: Path, tmp_path: Path
) -> None:
    """The blocks of the runbook as they stand: the PROXY protocol is believed, and no header of the client."""
    page = (project / "docs/operations.md").read_text("utf-8").replace("10.0.0.0/8", "127.0.0.0/8")
    (block,) = re.findall(r"```yaml\n(services:\n  caddy:\n.*?)```", page, re.DOTALL)
    (listen, named, header) = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)[0].splitlines()
    options: dict[Kind, dict[str, Any]] = {
        "caddy": {"environment": yaml.safe_load(block)["services"]["caddy"]["environment"]},
        "nginx": {
            "changes": {
                r" ssl;$": " " + listen.removeprefix("listen 443 "),
                r"^    # set_real_ip_from .+": named,
                r"^    real_ip_header .+": header,
            }
        },
    }
    family = "TCP6" if ":" in client else "TCP4"
    async with (
        Upstream() as upstream,
        BehindTcp(kind, project / "deploy", tmp_path, [upstream.address], **options[kind]) as proxy,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(f"PROXY {family} {client} {client} 51007 443\r\n".encode())
        async with asyncio.timeout(5):
            await writer.start_tls(proxy.trust(), server_hostname="localhost")
            head = f"POST /mcp HTTP/1.1\r\nhost: localhost:{proxy.port}\r\nx-forwarded-for: 192.0.2.66\r\n"
            writer.write(f"{head}content-length: 2\r\n\r\n{{}}".encode())
            await reader.readuntil(b"\r\n\r\n")
        writer.close()

        (seen,) = upstream.calls
        assert seen.headers["x-forwarded-for"] == client


async def test_requests_share_connections(make: Make) -> None:
    """The way to the server stays open between two requests."""
    async with Upstream() as upstream, make(upstream.address) as proxy, proxy.client() as client:
        for _ in range(5):
            await client.post("/mcp", content=b"{}")

        # Caddy has one more for its health checks.
        assert upstream.connections <= 2


async def test_a_body_that_is_too_large_never_reaches_the_server(make: Make) -> None:
    """The limit is above the server's, which answers first; the proxy's is for floods."""
    async with Upstream() as upstream, make(upstream.address) as proxy, proxy.client() as client:
        passed = await client.post("/mcp", content=b"x" * (MIB + MIB // 2))
        refused = await client.post("/mcp", content=b"x" * 3 * MIB)

        assert passed.status_code == 200
        assert [seen.body for seen in upstream.calls if seen.body > 2 * MIB] == []
        assert refused.status_code == 413
        assert refused.json()["error"]["data"] == {"kind": "too_large"}


async def cut_off(make: Make, attempts: int, changes: Mapping[str, str] | None = None) -> bool:
    """Return whether one of many refusals did not arrive; the server gives them by the headers alone."""
    async with (
        Upstream(hasty=True) as upstream,
        make(upstream.address, changes=changes) as proxy,
        proxy.client() as client,
    ):
        for _ in range(attempts):
            try:
                assert (await client.post("/mcp", content=b"x" * 200_000)).status_code == 401
            except httpx2.TransportError:
                return True
    return False


async def test_an_early_refusal_arrives_whole(make: Make) -> None:
    """A request without a credential is refused before its body is read; the client gets every byte of that."""
    assert not await cut_off(make, 1000)


async def test_a_proxy_that_takes_the_rest_fails_the_same_test(project: Path, tmp_path: Path) -> None:
    """The control: Caddy that takes the rest of the request while it is passed on cuts one refusal in twenty off."""

    def make(*upstreams: str, changes: Mapping[str, str] | None = None) -> Proxy:
        return Proxy("caddy", project / "deploy", tmp_path, list(upstreams), changes)

    assert await cut_off(make, 10_000, {r"^\s*enable_full_duplex$": ""})


async def test_without_a_server_the_answer_says_when_to_come_back(make: Make) -> None:
    """A refusal of the proxy is JSON-RPC with Retry-After, as the server's own are."""
    async with make(f"127.0.0.1:{free_port()}") as proxy, proxy.client() as client:
        answer = await client.post("/mcp", content=b"{}")

        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["error"]["data"] == {"kind": "unavailable", "retryAfter": 2}


async def test_a_replica_that_dies_is_passed_over(make: Make) -> None:
    """What cannot be sent to one goes to the other, before any health check has noticed: no request fails."""
    async with Upstream() as alive, contextlib.AsyncExitStack() as life:
        dying = await life.enter_async_context(Upstream())
        async with make(dying.address, alive.address) as proxy, proxy.client() as client:
            before = [await client.post("/mcp", content=b"{}") for _ in range(10)]
            assert dying.calls
            await life.aclose()
            await asyncio.sleep(NOTICED)
            after = [await client.post("/mcp", content=b"{}") for _ in range(20)]

        assert {answer.status_code for answer in before + after} == {200}


async def test_a_call_that_was_sent_is_never_repeated(make: Make) -> None:
    """A server that dies in the middle of a call may have done it: the client decides."""

    async def die(writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with Upstream(answer=die) as one, Upstream(answer=die) as other:
        async with make(one.address, other.address) as proxy, proxy.client() as client:
            answer = await client.post("/mcp", content=b"{}")

        assert len(one.calls) + len(other.calls) == 1
        assert answer.status_code == 502
        assert "retry-after" not in answer.headers
        assert answer.json()["error"]["data"] == {"kind": "interrupted"}


async def test_a_proxy_that_repeats_posts_fails_the_same_test(project: Path, tmp_path: Path) -> None:
    """The control: told to repeat what is refused, nginx repeats what was begun as well; it knows no difference."""

    async def die(writer: asyncio.StreamWriter) -> None:
        writer.close()

    changes = {
        r"^proxy_next_upstream error timeout;": "proxy_next_upstream error timeout http_503 non_idempotent;",
        r"^proxy_request_buffering off;": "proxy_request_buffering on;",
    }
    async with Upstream(answer=die) as one, Upstream(answer=die) as other:
        upstreams = [one.address, other.address]
        async with Proxy("nginx", project / "deploy", tmp_path, upstreams, changes) as proxy, proxy.client() as client:
            await client.post("/mcp", content=b"{}")

        assert len(one.calls) + len(other.calls) == 2


async def test_an_unready_replica_gets_no_new_calls(project: Path, tmp_path: Path) -> None:
    """Caddy asks for readiness, and takes a replica out that is draining."""
    async with Upstream() as draining, Upstream() as ready:
        upstreams = [draining.address, ready.address]
        async with Proxy("caddy", project / "deploy", tmp_path, upstreams) as proxy:
            draining.ready = False
            await draining.asked(2)
            before = len(draining.calls)
            async with proxy.client() as client:
                answers = [await client.post("/mcp", content=b"{}") for _ in range(20)]

            assert {answer.status_code for answer in answers} == {200}
            assert len(draining.calls) == before


# What the operator of stateful sessions does: one line out, the line below it in.
STICKY = {
    "caddy": {r"^\t+lb_policy least_conn$": "", r"# lb_policy header Authorization$": "lb_policy header Authorization"},
    "nginx": {
        r"^    least_conn;$": "",
        r"# hash \$http_authorization consistent;": "hash $http_authorization consistent;",
    },
}


async def test_sessions_stick_with_the_line_that_is_ready(make: Make, kind: Kind) -> None:
    """Each credential stays on one replica, all of them use both, and the other one takes over when one goes."""
    keys = [f"Bearer {number}" for number in range(16)]

    async def ask(client: httpx2.AsyncClient) -> None:
        for key in keys * 3:
            assert (await client.post("/mcp", headers={"authorization": key}, content=b"{}")).status_code == 200

    async with Upstream() as one, contextlib.AsyncExitStack() as life:
        other = await life.enter_async_context(Upstream())
        async with make(one.address, other.address, changes=STICKY[kind]) as proxy, proxy.client() as client:
            await ask(client)
            homes = [{call.headers["authorization"] for call in upstream.calls} for upstream in (one, other)]
            await life.aclose()
            await asyncio.sleep(NOTICED)
            await ask(client)

    assert homes[0] | homes[1] == set(keys)
    assert homes[0] & homes[1] == set()
    assert all(homes)


async def test_no_version_is_told(make: Make) -> None:
    """Browsers are told to stay with TLS, and nobody is told what runs here."""
    async with Upstream() as upstream, make(upstream.address) as proxy, proxy.client() as client:
        for path in ("/mcp", "/nothing"):
            headers = (await client.get(path)).headers
            assert headers["strict-transport-security"] == "max-age=31536000"
            # nginx cannot be told to leave its name out, but its version.
            assert headers.get("server", "nginx") == "nginx"
            assert "via" not in headers


async def test_a_client_that_leaves_is_noticed(make: Make) -> None:
    """The connection to the server ends with the client's, while the stream is silent."""

    async def silent(writer: asyncio.StreamWriter) -> None:
        await begin_stream(writer)
        await send_event(writer, b"{}")
        await asyncio.Event().wait()

    async with Upstream(answer=silent) as upstream, make(upstream.address) as proxy:
        async with proxy.client() as client, client.stream("POST", "/mcp", content=b"{}") as stream:
            async for line in stream.aiter_lines():
                if line:
                    break
        async with asyncio.timeout(2):
            await upstream.gone.wait()


async def produced(make: Make, changes: Mapping[str, str] | None = None) -> int:
    """Return how many of 400 events of 100 kB the server can send to a client that reads none."""
    sent = 0
    stalled = asyncio.Event()

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await begin_stream(writer)
        for _ in range(400):
            try:
                async with asyncio.timeout(2):
                    await send_event(writer, b"x" * 100_000)
            except TimeoutError:
                break
            sent += 1
        stalled.set()
        await asyncio.Event().wait()

    async with (
        Upstream(answer=flood) as upstream,
        make(upstream.address, changes=changes) as proxy,
        proxy.client() as client,
        client.stream("POST", "/mcp", content=b"{}"),
        asyncio.timeout(20),
    ):
        await stalled.wait()
    return sent


async def test_a_reader_that_stalls_slows_the_server(make: Make) -> None:
    """Nothing is stored on the way: the server stops when the client does not read."""
    assert await produced(make) < 300


async def test_a_buffering_proxy_fails_the_same_test(project: Path, tmp_path: Path) -> None:
    """The control: with buffering on, nginx takes everything and puts it on disk."""

    def make(*upstreams: str, changes: Mapping[str, str] | None = None) -> Proxy:
        return Proxy("nginx", project / "deploy", tmp_path, list(upstreams), changes)

    buffering = {"proxy_buffering off;": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"}

    assert await produced(make, buffering) == 400


async def test_one_address_cannot_take_every_connection(project: Path, tmp_path: Path) -> None:
    """nginx: 128 requests of one address are open at once; one more is refused with 429, as clients understand it."""

    async def silent(writer: asyncio.StreamWriter) -> None:
        await begin_stream(writer)
        await asyncio.Event().wait()

    async with (
        Upstream(answer=silent) as upstream,
        Proxy("nginx", project / "deploy", tmp_path, [upstream.address]) as proxy,
        contextlib.AsyncExitStack() as stack,
    ):
        trust = proxy.trust()
        request = f"POST /mcp HTTP/1.1\r\nhost: localhost:{proxy.port}\r\ncontent-length: 2\r\n\r\n{{}}".encode()
        statuses: list[bytes] = []
        for _ in range(129):
            reader, writer = await asyncio.open_connection("localhost", proxy.port, ssl=trust)
            stack.callback(writer.close)
            writer.write(request)
            async with asyncio.timeout(5):
                statuses.append((await reader.readuntil(b"\r\n\r\n"))[:12])
        async with asyncio.timeout(5):
            refused = json.loads(await reader.readuntil(b"}}}"))

    assert statuses == [b"HTTP/1.1 200"] * 128 + [b"HTTP/1.1 429"]
    assert refused["error"]["data"] == {"kind": "rate_limited", "retryAfter": 2}
