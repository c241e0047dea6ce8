"""Authentication: who may in and what they may do, first the guard alone, then on a socket."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from captured import captured
from cryptography.hazmat.primitives.asymmetric import ec
from live import KEY, OTHER_KEY, PROBE_KEY, Live, live
from wire import ERAS, Era, Reply, Wire, opening, request

from hardening.auth.authentication import Authentication
from hardening.auth.authorization import PROBE_METHODS, Authorization, Scopes
from hardening.auth.resource_metadata import ProtectedResource
from hardening.dev.issuer import LocalIssuer
from hardening.exchange import Exchange, open_exchange
from hardening.response import Response
from hardening.settings import HardeningSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

AUDIENCE = "https://mcp.example.com/mcp"
PUBLIC_URL = "https://mcp.example.com"
UNKNOWN_KEY = "unknown-key-0123456789-0123456789-0123456"
METADATA = "/.well-known/oauth-protected-resource/mcp"

Guarded = Callable[..., "Guards"]


class Guards:
    """Authentication and authorization with what they share, as the stack has them."""

    def __init__(
        self, settings: HardeningSettings, tool_scopes: dict[str, tuple[str, ...]] | None = None, **options: Any
    ) -> None:
        scopes = Scopes(settings.required_scopes, tool_scopes, settings.implied_scopes)
        issuer = settings.jwt_issuer if "jwt" in settings.auth else ""
        resource = ProtectedResource(issuer, settings.public_url, scopes.required)
        self.authentication = Authentication(settings, resource, **options)
        self.authorize = Authorization(scopes, resource)
        self.running = self.authentication.running

    async def __call__(self, exchange: Exchange) -> Response | None:
        """Ask who is calling."""
        return await self.authentication(exchange)


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    """A real issuer on loopback."""
    with LocalIssuer() as one:
        yield one


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch, issuer: LocalIssuer) -> Guarded:
    """Return a guard for these settings; both modes and a probe key unless something else is said."""
    usual = {
        "MCP_AUTH": "api_key,jwt",
        "MCP_API_KEYS": f"alice:{KEY},bob:{OTHER_KEY}",
        "MCP_PROBE_KEY": PROBE_KEY,
        "MCP_JWT_ISSUER": issuer.url,
        "MCP_PUBLIC_URL": PUBLIC_URL,
    }

    def build(environment: dict[str, str] | None = None, **options: Any) -> Guards:
        for name, value in (usual | (environment or {})).items():
            monkeypatch.setenv(name, value)
        return Guards(settings_of_the_environment(), **options)

    return build


def settings_of_the_environment() -> HardeningSettings:
    """Return the settings, unchecked: what is refused here is what slipped through the checks."""
    kind: Any = HardeningSettings
    return kind()


def asked(  # noqa: PLR0913 - each is one part of a request
    credential: str = "",
    *,
    path: str = "/mcp",
    method: str = "POST",
    query: bytes = b"",
    rpc_method: str | None = None,
    tool: str | None = None,
) -> Exchange:
    """Return a request, with the body read as far as the arguments say."""
    headers = [(b"host", b"mcp.example.com")]
    if credential:
        headers.append((b"authorization", f"Bearer {credential}".encode()))
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": headers,
    }
    exchange = open_exchange(scope, None, None)  # type: ignore[arg-type] - nothing is received or sent
    exchange.rpc_method, exchange.tool_name = rpc_method, tool
    return exchange


async def passes(guard: Guards, exchange: Exchange) -> Response | None:
    """Ask both halves of the guard, as the stack does."""
    return await guard(exchange) or await guard.authorize(exchange)


def challenge(answer: Response) -> str:
    """Return the challenge of an answer."""
    return dict(answer.headers)[b"www-authenticate"].decode()


@pytest.mark.parametrize(("key", "kind", "name"), [(KEY, "api_key", "alice"), (OTHER_KEY, "api_key", "bob")])
async def test_a_key_is_its_name(guard: Guarded, key: str, kind: str, name: str) -> None:
    """A good key passes and is known by the name it was given, with every scope."""
    exchange = asked(key, rpc_method="tools/call", tool="scoped")

    assert await passes(guard(tool_scopes={"scoped": ("a",)}), exchange) is None
    assert exchange.principal is not None
    assert (exchange.principal.kind, exchange.principal.name) == (kind, name)
    assert not exchange.probe


async def test_a_token_is_its_subject(guard: Guarded, issuer: LocalIssuer) -> None:
    """A good token passes, and the verified identity goes on in place of the token."""
    token = issuer.token(AUDIENCE, subject="carol", scopes=("a",))
    exchange = asked(token, rpc_method="tools/list")

    assert await passes(guard(), exchange) is None
    assert exchange.principal is not None
    assert exchange.principal.id == f"jwt {issuer.url} carol local"
    assert exchange.scope["user"].access_token.subject == "carol"
    assert token not in repr(exchange.scope)
    assert token not in repr(exchange.headers)
    assert token in exchange.sensitive


async def test_a_key_may_look_like_a_token(guard: Guarded) -> None:
    """A key with two dots is a key: it is never sent through the token's checks."""
    dotted = f"{KEY}.{KEY}.{KEY}"
    exchange = asked(dotted)

    assert await guard({"MCP_API_KEYS": f"dotted:{dotted}"})(exchange) is None
    assert exchange.principal is not None
    assert exchange.principal.name == "dotted"


async def test_nothing_presented_is_no_error(guard: Guarded) -> None:
    """Without a credential: 401, where to go, which scopes, and no error code."""
    answer = await guard({"MCP_REQUIRED_SCOPES": "b,a"})(asked())

    assert answer is not None
    assert (answer.status, answer.kind) == (401, "unauthenticated")
    assert challenge(answer) == f'Bearer resource_metadata="{PUBLIC_URL}{METADATA}", scope="a b"'


async def test_with_keys_alone_the_challenge_is_plain(guard: Guarded) -> None:
    """There is no issuer to send a client to, so nothing is made up."""
    keys_only = guard({"MCP_AUTH": "api_key"})

    answer = await keys_only(asked())
    refused = await keys_only(asked(UNKNOWN_KEY))

    assert answer is not None
    assert refused is not None
    assert challenge(answer) == "Bearer"
    assert challenge(refused).startswith('Bearer error="invalid_token"')


@pytest.mark.parametrize(
    ("credential", "reason"),
    [
        (UNKNOWN_KEY, "unknown_key"),
        (KEY[:-1], "unknown_key"),
        (KEY + "x", "unknown_key"),
        (KEY.upper(), "unknown_key"),
        ("a.b.c", "malformed_header"),
        ("a" * 9000, "token_too_long"),
        (f"{KEY} {KEY}", "malformed_credential"),
    ],
    ids=lambda value: value[:20],
)
async def test_a_bad_credential_is_refused_alike(guard: Guarded, credential: str, reason: str) -> None:
    """Whatever is wrong, the caller reads the same 401; the reason stands in the log, as one word."""
    exchange = asked(credential)

    answer = await guard()(exchange)

    assert answer is not None
    assert (answer.status, answer.message) == (401, "The credential is not valid here.")
    assert 'error="invalid_token"' in challenge(answer)
    assert exchange.principal is None
    assert exchange.reason == reason


@pytest.mark.parametrize("name", ["access_token", "api_key", "token", "key"])
async def test_a_credential_in_the_query_is_refused(guard: Guarded, name: str) -> None:
    """A credential in the URL is 401, alone or beside a good header."""
    for header in ("", KEY):
        answer = await guard()(asked(header, query=f"{name}={KEY}".encode()))

        assert answer is not None
        assert answer.status == 401


@pytest.mark.parametrize(
    ("modes", "accepted"),
    [("api_key", {"key"}), ("jwt", {"token"}), ("api_key,jwt", {"key", "token"})],
)
async def test_only_the_chosen_modes_are_accepted(
    guard: Guarded, issuer: LocalIssuer, modes: str, accepted: set[str]
) -> None:
    """A key is worth nothing in token mode and a token nothing in key mode."""
    both = guard({"MCP_AUTH": modes})
    credentials = {"key": KEY, "token": issuer.token(AUDIENCE)}

    passed = {kind for kind, value in credentials.items() if await both(asked(value)) is None}

    assert passed == accepted


async def test_without_authentication_everybody_is_anonymous(guard: Guarded) -> None:
    """`MCP_AUTH=none` lets everybody in under one name, and still hides what was sent."""
    nobody = guard({"MCP_AUTH": "none"})
    for credential in ("", KEY):
        exchange = asked(credential, rpc_method="tools/call", tool="any")

        assert await passes(nobody, exchange) is None
        assert exchange.principal is not None
        assert (exchange.principal.kind, exchange.principal.name) == ("none", "anonymous")
        assert KEY not in repr(exchange.scope)


@pytest.mark.parametrize("modes", ["api_key", "jwt", "none"])
@pytest.mark.parametrize("rpc_method", sorted(PROBE_METHODS))
async def test_the_probe_may_look(guard: Guarded, modes: str, rpc_method: str) -> None:
    """The monitor's key opens every listing and both handshakes, in every mode."""
    exchange = asked(PROBE_KEY, rpc_method=rpc_method)

    assert await passes(guard({"MCP_AUTH": modes}), exchange) is None
    assert exchange.principal is not None
    assert exchange.principal.kind == "probe"
    assert exchange.probe


@pytest.mark.parametrize(
    "rpc_method",
    [
        "tools/call",
        "resources/read",
        "prompts/get",
        "completion/complete",
        "subscriptions/listen",
        "logging/setLevel",
        "notifications/cancelled",
        "TOOLS/LIST",
        None,
    ],
)
async def test_the_probe_may_do_nothing_else(guard: Guarded, rpc_method: str | None) -> None:
    """The monitor's key is refused with 403 on everything else, known or not."""
    answer = await passes(guard(), asked(PROBE_KEY, rpc_method=rpc_method))

    assert answer is not None
    assert (answer.status, answer.kind) == (403, "forbidden")


@pytest.mark.parametrize(("credential", "status"), [(PROBE_KEY, None), (KEY, 403), ("", 401), (UNKNOWN_KEY, 401)])
async def test_the_metrics_are_the_probes(guard: Guarded, credential: str, status: int | None) -> None:
    """Metrics open to the monitor's key alone."""
    answer = await passes(guard(), asked(credential, path="/metrics", method="GET"))

    assert (answer.status if answer else None) == status


async def test_a_missing_scope_is_named_with_all_the_others(guard: Guarded, issuer: LocalIssuer) -> None:
    """403 names every scope that this operation needs, so one step-up is enough; always the same."""
    scoped = guard({"MCP_REQUIRED_SCOPES": "use"}, tool_scopes={"write": ("notes:write", "notes:read")})
    granted: list[tuple[str, ...]] = [(), ("use",), ("notes:write", "notes:read"), ("use", "notes:read")]

    answers = [
        await passes(scoped, asked(issuer.token(AUDIENCE, scopes=scopes), rpc_method="tools/call", tool="write"))
        for scopes in granted
    ]

    assert [answer and answer.status for answer in answers] == [403] * len(granted)
    header = (
        'Bearer error="insufficient_scope", '
        'error_description="The token lacks a scope that this operation needs.", '
        f'resource_metadata="{PUBLIC_URL}{METADATA}", scope="notes:read notes:write use"'
    )
    assert {challenge(answer) for answer in answers if answer} == {header}


@pytest.mark.parametrize(
    ("scopes", "rpc_method", "tool", "passed"),
    [
        (("use",), "tools/list", None, True),
        (("use",), "tools/call", "free", True),
        (("use",), "tools/call", "write", False),
        (("use", "write"), "tools/call", "write", True),
        (("use", "admin"), "tools/call", "write", True),
        (("write",), "tools/list", None, False),
        ((), "server/discover", None, False),
    ],
)
async def test_each_operation_needs_its_scopes(  # noqa: PLR0913, PLR0917 - one column each
    guard: Guarded,
    issuer: LocalIssuer,
    scopes: tuple[str, ...],
    rpc_method: str,
    tool: str | None,
    passed: bool,  # noqa: FBT001 - a column
) -> None:
    """Required scopes hold for every request of a token, a tool's own for calls of that tool."""
    settings = {"MCP_REQUIRED_SCOPES": "use", "MCP_IMPLIED_SCOPES": "admin=write"}
    scoped = guard(settings, tool_scopes={"write": ("write",)})
    exchange = asked(issuer.token(AUDIENCE, scopes=scopes), rpc_method=rpc_method, tool=tool)

    assert (await passes(scoped, exchange) is None) is passed


async def test_authorization_without_authentication_is_refused(guard: Guarded) -> None:
    """If the stack is ever put together in the wrong order, nobody gets in."""
    answer = await guard().authorize(asked(KEY, rpc_method="tools/list"))

    assert answer is not None
    assert answer.status == 401


async def test_failures_are_charged_and_nothing_else(guard: Guarded, issuer: LocalIssuer) -> None:
    """Only a bad credential is charged; what is charged may be answered in another way."""
    charged: list[str] = []

    async def charge(exchange: Exchange) -> Response | None:
        charged.append(exchange.path)
        return Response(429, "too_many_failures", retry_after=60) if len(charged) > 1 else None

    counting = guard(on_failure=charge)

    statuses = [
        answer.status if (answer := await counting(asked(credential))) else 200
        for credential in ("", KEY, issuer.token(AUDIENCE), PROBE_KEY, UNKNOWN_KEY, "a.b.c")
    ]

    assert statuses == [401, 200, 200, 200, 401, 429]
    assert len(charged) == 2


async def test_an_issuer_that_is_down_is_503(guard: Guarded) -> None:
    """An unreachable issuer is neither the caller's fault nor a fault of this server; keys still work."""
    with LocalIssuer() as gone:
        token = gone.token(AUDIENCE)
    charged: list[Exchange] = []

    async def charge(exchange: Exchange) -> None:
        charged.append(exchange)

    guarded = guard({"MCP_JWT_ISSUER": gone.url}, on_failure=charge)
    async with guarded.running():
        answer = await guarded(asked(token))

        assert answer is not None
        assert (answer.status, answer.kind) == (503, "auth_unavailable")
        assert answer.retry_after is not None
        assert not charged
        assert await guarded(asked(KEY)) is None


async def test_a_server_that_has_started_has_the_keys(guard: Guarded) -> None:
    """Keys are fetched at the start, so the first token is served though the issuer has gone away."""
    with LocalIssuer() as going:
        token = going.token(AUDIENCE)
        guarded = guard({"MCP_JWT_ISSUER": going.url})
        running = guarded.running()
        await running.__aenter__()
        fetches = [task for task in asyncio.all_tasks() if "Keys._refresh" in repr(task)]
        await asyncio.wait(fetches, timeout=10)

    assert await guarded(asked(token)) is None

    await running.__aexit__(None, None, None)


async def test_the_metadata_need_no_credential(guard: Guarded, issuer: LocalIssuer) -> None:
    """Whoever needs a token can read where to get one; with keys alone there is nothing to read."""
    answer = await guard()(asked(path=METADATA, method="GET"))
    nothing = await guard({"MCP_AUTH": "api_key"})(asked(path=METADATA, method="GET"))

    assert answer is not None
    assert nothing is not None
    assert nothing.status == 404
    document = json.loads(answer.body or b"")
    assert (document["resource"], document["authorization_servers"]) == (AUDIENCE, [issuer.url])


@pytest.mark.parametrize(
    ("environment", "setting"),
    [
        ({"MCP_AUTH": ""}, "MCP_AUTH"),
        ({"MCP_AUTH": "none,api_key"}, "MCP_AUTH"),
        ({"MCP_PROBE_KEY": KEY}, "MCP_PROBE_KEY"),
        ({"MCP_JWT_ISSUER": "http://login.example.com"}, "MCP_JWT_ISSUER"),
        ({"MCP_JWT_ISSUER": ""}, "MCP_JWT_ISSUER"),
        ({"MCP_JWT_JWKS_URL": "http://login.example.com/keys"}, "MCP_JWT_JWKS_URL"),
        ({"MCP_PUBLIC_URL": ""}, "MCP_JWT_AUDIENCE"),
        ({"MCP_PUBLIC_URL": "mcp.example.com"}, "MCP_PUBLIC_URL"),
        ({"MCP_REQUIRED_SCOPES": 'quo"te'}, "MCP_REQUIRED_SCOPES"),
    ],
    ids=str,
)
def test_settings_that_would_open_the_server_do_not_start_it(
    guard: Guarded, environment: dict[str, str], setting: str
) -> None:
    """A guard that could not do its work is never built; the error names the setting."""
    with pytest.raises(ValueError, match=setting):
        guard(environment)


# From here on: on a socket, behind the whole stack, in both eras.

both_eras = pytest.mark.parametrize("era", ERAS)


@pytest.fixture(scope="module")
def guarded(issuer: LocalIssuer) -> Iterator[Live]:
    """A server that takes keys and tokens."""
    with live(
        MCP_AUTH="api_key,jwt",
        MCP_JWT_ISSUER=issuer.url,
        MCP_JWT_AUDIENCE=AUDIENCE,
        MCP_REQUIRED_SCOPES="use",
        MCP_RATE_AUTH_FAILURES_PER_MINUTE="100000",
    ) as running:
        yield running


@pytest.fixture
async def wire(guarded: Live) -> AsyncIterator[Wire]:
    """A client without a credential."""
    async with Wire(guarded.url) as client:
        yield client


def is_refused(reply: Reply, *, presented: bool) -> bool:
    """Return whether this is the 401 that every unknown caller gets."""
    header = reply.headers.get("www-authenticate", "")
    named = METADATA in header and 'scope="use"' in header
    return reply.status == 401 and named and ("error=" in header) is presented and "x-request-id" in reply.headers


@both_eras
async def test_r4_no_token_is_challenged(wire: Wire, era: Era) -> None:
    """No credential: 401 with metadata and scope; the metadata name exactly this endpoint."""
    reply = await wire.ask(era, *opening(era))
    found = re.search(r'resource_metadata="([^"]+)"', reply.headers["www-authenticate"])
    assert found is not None
    metadata = (await wire.http.get(found[1])).json()

    assert is_refused(reply, presented=False)
    assert metadata["resource"] == f"{wire.url}/mcp"
    assert metadata["scopes_supported"] == ["use"]


@both_eras
@pytest.mark.parametrize("name", ["access_token", "api_key", "token"])
async def test_r5_a_credential_in_the_query_is_refused(wire: Wire, era: Era, name: str) -> None:
    """A good credential in the URL opens nothing."""
    headers, body = request(era, "tools/list")

    reply = await wire.send(body, headers, path=f"/mcp?{name}={KEY}")

    assert is_refused(reply, presented=True)


@both_eras
@pytest.mark.parametrize(
    "attack",
    ["wrong audience", "wrong issuer", "expired", "not yet valid", "wrong key", "alg none", "oversize", "garbage"],
)
async def test_r5_a_bad_token_is_refused(wire: Wire, issuer: LocalIssuer, era: Era, attack: str) -> None:
    """Each kind of bad token is the same 401 on the wire, whichever era asks."""
    good = issuer.token(AUDIENCE, scopes=("use",))
    header, claims, _ = good.split(".")
    body = jwt.decode(good, options={"verify_signature": False})
    unsigned = jwt.encode(body, "", "none", headers={"kid": jwt.get_unverified_header(good)["kid"]})
    tokens = {
        "wrong audience": issuer.token("https://other.example.com/mcp", scopes=("use",)),
        "wrong issuer": issuer.token(AUDIENCE, scopes=("use",), iss="https://evil.example.com"),
        "expired": issuer.token(AUDIENCE, scopes=("use",), lifetime_seconds=-60),
        "not yet valid": issuer.token(AUDIENCE, scopes=("use",), nbf=int(time.time()) + 300),
        "wrong key": jwt.encode(
            body, ec.generate_private_key(ec.SECP256R1()), "ES256", headers=jwt.get_unverified_header(good)
        ),
        "alg none": unsigned,
        "oversize": f"{header}.{claims}.{'A' * 8192}",
        "garbage": "a.b.c",
    }

    assert (await wire.ask(era, "tools/list", key=good)).status == 200
    assert is_refused(await wire.ask(era, "tools/list", key=tokens[attack]), presented=True)


@both_eras
async def test_r6_nothing_is_told_before_authentication(wire: Wire, era: Era) -> None:
    """Every method, known or not, is the same 401: nothing can be learnt from the difference."""
    methods: list[tuple[str, dict[str, Any]]] = [
        opening(era),
        ("tools/list", {}),
        ("tools/call", {"name": "echo"}),
        ("no/such", {}),
        ("ping", {}),
    ]

    replies = [await wire.ask(era, method, params) for method, params in methods]

    assert all(is_refused(reply, presented=False) for reply in replies)
    assert {reply.error["message"] for reply in replies} == {"Send a credential in the header Authorization: Bearer."}
    assert not any("echo" in reply.body.decode() for reply in replies)


@both_eras
async def test_both_modes_serve_together(wire: Wire, issuer: LocalIssuer, era: Era) -> None:
    """A key and a token reach the same tool, each as the one it is."""
    token = issuer.token(AUDIENCE, subject="carol", scopes=("use",))

    by_key = await wire.call(era, "who", key=KEY)
    by_token = await wire.call(era, "who", key=token)

    assert by_key.result["structuredContent"]["id"] == "api_key alice"
    assert by_token.result["structuredContent"]["id"] == f"jwt {issuer.url} carol local"


@both_eras
async def test_a_step_up_is_enough_once(wire: Wire, issuer: LocalIssuer, era: Era) -> None:
    """403 names every scope of the call; a token with exactly these gets through; a key needs none."""
    poor = await wire.call(era, "scoped", {"text": "hello"}, key=issuer.token(AUDIENCE, scopes=("use",)))
    asked_for = re.search(r'scope="([^"]+)"', poor.headers["www-authenticate"])
    assert asked_for is not None
    better = issuer.token(AUDIENCE, scopes=asked_for[1].split())

    assert poor.status == 403
    assert asked_for[1] == "notes:admin use"
    assert 'error="insufficient_scope"' in poor.headers["www-authenticate"]
    assert (await wire.call(era, "scoped", {"text": "hello"}, key=better)).status == 200
    assert (await wire.call(era, "scoped", {"text": "hello"}, key=KEY)).status == 200


@both_eras
async def test_the_body_decides_which_tool_is_called(wire: Wire, issuer: LocalIssuer, era: Era) -> None:
    """A header that names a harmless tool does not open the one in the body."""
    token = issuer.token(AUDIENCE, scopes=("use",))

    reply = await wire.call(era, "scoped", {"text": "hello"}, key=token, headers={"mcp-name": "echo"})

    assert reply.status == 403


@both_eras
async def test_the_probe_looks_and_never_calls(wire: Wire, era: Era) -> None:
    """The monitor's key opens and lists in both eras, and is refused on a call."""
    assert (await wire.ask(era, *opening(era), key=PROBE_KEY)).status == 200
    assert (await wire.ask(era, "tools/list", key=PROBE_KEY)).status == 200
    assert (await wire.call(era, "echo", {"text": "hello"}, key=PROBE_KEY)).status == 403


@both_eras
async def test_a_rollover_fails_no_request(era: Era) -> None:
    """Callers that never pause notice nothing when the issuer changes its key."""
    with LocalIssuer() as issuer, live(MCP_AUTH="jwt", MCP_JWT_ISSUER=issuer.url, MCP_JWT_AUDIENCE=AUDIENCE) as running:
        async with Wire(running.url) as client:

            async def caller(number: int) -> set[int]:
                statuses: set[int] = set()
                for turn in range(10):
                    if (number, turn) == (0, 5):
                        issuer.rotate()
                    reply = await client.ask(era, "tools/list", key=issuer.token(AUDIENCE))
                    statuses.add(reply.status)
                return statuses

            statuses = await asyncio.gather(*(caller(number) for number in range(8)))

    assert statuses == [{200}] * 8


async def test_an_issuer_that_is_down_leaves_health_alone() -> None:
    """With the issuer gone: tokens are 503 with a time to come back, and the server stays ready."""
    with LocalIssuer() as gone:
        token = gone.token(AUDIENCE)
    with live(MCP_AUTH="api_key,jwt", MCP_JWT_ISSUER=gone.url, MCP_JWT_AUDIENCE=AUDIENCE) as running:
        async with Wire(running.url) as client:
            replies = {era: await client.ask(era, "tools/list", key=token) for era in ERAS}
            ready = await client.get("/readyz")
            alive = await client.get("/livez")
            by_key = await client.ask("modern", "tools/list", key=KEY)

    assert {(reply.status, reply.error["data"]["kind"]) for reply in replies.values()} == {(503, "auth_unavailable")}
    assert all(1 <= int(reply.headers["retry-after"]) <= 10 for reply in replies.values())
    assert (ready.status, alive.status, by_key.status) == (200, 200, 200)


async def test_forged_tokens_count_while_the_issuer_is_away() -> None:
    """20 of them in a minute are 503, further ones 429, and one line in five a second says so."""
    with LocalIssuer() as gone:
        token = gone.token(AUDIENCE)
    with live(MCP_AUTH="jwt", MCP_API_KEYS="", MCP_JWT_ISSUER=gone.url, MCP_JWT_AUDIENCE=AUDIENCE) as running:
        async with Wire(running.url) as client:
            statuses = [(await client.ask("modern", "tools/list", key=token)).status for _ in range(30)]

    assert statuses[:20] == [503] * 20
    assert set(statuses[22:]) == {429}


async def test_bad_credentials_cannot_fill_the_log(tmp_path: Path) -> None:
    """2,000 bad keys from 2,000 addresses are a few lines a second, each with a reason."""
    with live(MCP_TRUSTED_PROXY_HOPS="1") as running, captured(tmp_path / "log") as log:
        async with Wire(running.url) as client:
            started = time.monotonic()
            for number in range(300):
                spoken = {"x-forwarded-for": f"192.0.2.{number % 250}"}
                await client.ask("modern", "server/discover", key=UNKNOWN_KEY, headers=spoken)
            seconds = int(time.monotonic() - started) + 2
        lines = log.lines()

    assert len(lines) <= 5 * seconds
    assert {(line["msg"], line["error_code"]) for line in lines} == {("refused", "unknown_key")}


async def test_a_session_belongs_to_its_subject(issuer: LocalIssuer) -> None:
    """Two people who use the same client cannot use each other's session: it answers as if unknown."""
    with live(MCP_AUTH="jwt", MCP_JWT_ISSUER=issuer.url, MCP_JWT_AUDIENCE=AUDIENCE, MCP_LEGACY="stateful") as running:
        async with Wire(running.url) as client:
            carol, dave = (issuer.token(AUDIENCE, subject=name) for name in ("carol", "dave"))
            opened = await client.ask("legacy", *opening("legacy"), key=carol)
            session = {"mcp-session-id": opened.headers["mcp-session-id"]}
            own = await client.ask("legacy", "tools/list", key=carol, headers=session)
            again = await client.ask(
                "legacy", "tools/list", key=issuer.token(AUDIENCE, subject="carol"), headers=session
            )
            foreign = await client.ask("legacy", "tools/list", key=dave, headers=session)
            unknown = await client.ask("legacy", "tools/list", key=dave, headers={"mcp-session-id": "0" * 32})

    assert (own.status, again.status, foreign.status, unknown.status) == (200, 200, 404, 404)
    assert foreign.error == unknown.error
