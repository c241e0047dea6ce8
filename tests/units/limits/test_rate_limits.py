"""The four layers, as a stack asks them: who is refused, by what, and what it costs whom."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import live
import pytest
import wire

from hardening.errors import BudgetExhausted, RateLimited
from hardening.exchange import Exchange, Principal, open_exchange
from hardening.limits.memory import TokenBuckets
from hardening.limits.model import ALLOWED, Decision
from hardening.limits.rate_limits import RateLimits
from hardening.limits.refusals import tool_failure
from hardening.response import Response
from hardening.settings import HardeningSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODERN = "2026-07-28"
ERAS = pytest.mark.parametrize("version", ["2025-11-25", MODERN], ids=["legacy", "modern"])
PROBE_KEY, KEY = "p" * 40, "k" * 40
ALICE, BOB = Principal("api_key", "alice"), Principal("api_key", "bob")
PROBE = Principal("probe", "probe")
TOKEN_OF_CAROL = Principal("jwt", "carol", issuer="https://login.example.com")

RATES: dict[str, Any] = {
    "rate_address_per_minute": 60,
    "rate_address_burst": 30,
    "rate_auth_failures_per_minute": 5,
    "rate_initialize_per_minute": 8,
    "rate_discover_per_minute": 12,
    "rate_principal_per_minute": 20,
    "rate_principal_burst": 10,
    "rate_tool_per_minute": 6,
    "rate_probe_per_minute": 7,
    "budget_units": 100,
    "budget_window_seconds": 1000,
    "MCP_API_KEYS": f"alice:{KEY}",
    "probe_key": PROBE_KEY,
}


@dataclass
class Stack:
    """The guards in their order, with an authentication that believes what a test says."""

    limits: RateLimits
    clock: list[float]

    async def ask(  # noqa: PLR0913 - one keyword for each thing that decides
        self,
        who: Principal | None = ALICE,
        *,
        method: str = "tools/list",
        address: str = "192.0.2.1",
        version: str = MODERN,
        tool: str | None = None,
        credential: str = "",
        length: int | None = 200,
    ) -> Outcome:
        """Send one request; `who` None is a bad credential."""
        headers = [(b"mcp-protocol-version", version.encode())]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        if version == MODERN:
            headers.append((b"mcp-method", method.encode()))
        if credential or who is None:
            headers.append((b"authorization", f"Bearer {credential or 'bad'}".encode()))
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/mcp", "headers": headers}
        nothing: Any = None
        exchange = open_exchange(scope, nothing, nothing)
        exchange.address = address
        outcome = Outcome(exchange)
        outcome.answer = await self._pass(exchange, who, method, tool, outcome)
        for release in reversed(exchange.on_end):
            release()
        return outcome

    async def _pass(
        self, exchange: Exchange, who: Principal | None, method: str, tool: str | None, outcome: Outcome
    ) -> Response | None:
        if answer := await self.limits.address(exchange):
            return answer
        exchange.headers.pop(b"authorization", None)
        if who is None:
            outcome.verified = True
            return await self.limits.auth_failed(exchange) or Response(401, "unauthenticated")
        exchange.principal = who
        if answer := await self.limits.principal(exchange):
            return answer
        outcome.body_read = True
        exchange.body, exchange.rpc_method, exchange.tool_name = b"{}", method, tool
        if answer := await self.limits.message(exchange):
            return answer
        if tool:
            outcome.decision = await self.limits.tool(exchange, tool)
        return None

    async def strangers(self, requests: int, address: str = "192.0.2.1") -> int:
        """Send requests without a credential, and return how many were admitted to authentication."""
        admitted = 0
        for _ in range(requests):
            nothing: Any = None
            exchange = open_exchange(
                {"type": "http", "method": "POST", "path": "/mcp", "headers": []}, nothing, nothing
            )
            exchange.address = address
            admitted += await self.limits.address(exchange) is None
            for release in exchange.on_end:
                release()
        return admitted

    async def admitted(self, who: Principal | None = ALICE, attempts: int = 50, **request: Any) -> int:
        """Return how many of some requests at once get through."""
        return sum([(await self.ask(who, **request)).through for _ in range(attempts)])


@dataclass
class Outcome:
    """How one request ended."""

    exchange: Exchange
    answer: Response | None = None
    decision: Decision = field(default=ALLOWED)
    verified: bool = False
    body_read: bool = False

    @property
    def through(self) -> bool:
        """Whether neither the transport nor the tool refused it."""
        return self.answer is None and self.decision.allowed

    @property
    def limit(self) -> str:
        """The limit that refused it, or the kind of another answer."""
        if self.answer is None:
            return self.decision.limit
        return str(dict(self.answer.data).get("limit", self.answer.kind))


@pytest.fixture
def stack() -> Stack:
    """Return a stack with small limits and a clock that stands still."""
    clock = [1000.0]
    values: dict[str, Any] = {"_env_file": None, **RATES}
    limits = RateLimits(HardeningSettings(**values), TokenBuckets(10_000, lambda: clock[0]))
    limits.declare("forecast")
    limits.declare("rare", rate_per_minute=2)
    limits.declare("dear", rate_per_minute=600, cost=30)
    return Stack(limits, clock)


@ERAS
async def test_a_caller_gets_its_burst_and_its_rate(stack: Stack, version: str) -> None:
    """A caller over its limit is refused with 429, the time to wait, and the limit's name."""
    assert await stack.admitted(version=version) == 10
    outcome = await stack.ask(version=version)
    assert outcome.limit == "principal"
    assert outcome.answer is not None
    assert outcome.answer.status == 429
    assert outcome.answer.retry_after == pytest.approx(3)
    stack.clock[0] += 6
    assert await stack.admitted(version=version) == 2


@ERAS
async def test_an_address_gets_its_burst_and_its_rate(stack: Stack, version: str) -> None:
    """Strangers at one address get together what an address gets; another address is not affected."""
    assert await stack.strangers(50) == 30
    outcome = await stack.ask(BOB, version=version)
    assert outcome.limit == "address"
    assert outcome.answer is not None
    assert outcome.answer.status == 429
    assert await stack.admitted(BOB, version=version, address="192.0.2.2") == 10


@ERAS
async def test_a_known_caller_is_counted_by_caller(stack: Stack, version: str) -> None:
    """Callers behind one address use up nothing of each other's, nor do strangers there of theirs."""
    callers = [Principal("api_key", f"caller {number}") for number in range(10)]
    for method in ("tools/list", "initialize"):
        assert [await stack.admitted(caller, 5, version=version, method=method) for caller in callers] == [5] * 10
    await stack.strangers(50)
    assert (await stack.ask(ALICE, version=version, credential=KEY)).through
    # What nobody has verified yet waits with the strangers.
    assert (await stack.ask(ALICE, version=version, credential="unknown")).limit == "address"


async def test_without_authentication_addresses_are_told_apart(stack: Stack) -> None:
    """With `MCP_AUTH=none` everybody is one caller, so the address counts too."""
    nobody = [Principal("none", str(number)) for number in range(10)]
    assert sum([await stack.admitted(one, 5) for one in nobody]) == 30


@ERAS
async def test_an_address_over_its_limit_is_refused_before_authentication(stack: Stack, version: str) -> None:
    """A flood does not cost a signature check: what was never verified is counted too."""
    outcomes = [await stack.ask(None, version=version, address="192.0.2.3") for _ in range(50)]
    assert sum(outcome.verified for outcome in outcomes) == 5
    stack.clock[0] += 60
    await stack.strangers(50)
    outcome = await stack.ask(None, version=version)
    assert outcome.limit == "address"
    assert not outcome.verified


@ERAS
async def test_one_caller_at_a_hundred_times_its_limit_harms_nobody(stack: Stack, version: str) -> None:
    """Even at the same address, the refusals of one caller use up nothing of another's."""
    for _ in range(10):
        await stack.admitted(ALICE, 100, version=version)
    assert await stack.admitted(BOB, 10, version=version) == 10


async def test_callers_are_told_apart(stack: Stack) -> None:
    """No two callers share a bucket, and nobody is everybody."""
    for who in (ALICE, BOB, TOKEN_OF_CAROL, Principal("jwt", "carol", issuer="https://other.example.com")):
        assert await stack.admitted(who, address=f"192.0.2.{len(who.id)}") == 10


@ERAS
async def test_failed_authentications_have_a_tighter_limit(stack: Stack, version: str) -> None:
    """After a few bad credentials an address is refused before the next is looked at."""
    outcomes = [await stack.ask(None, version=version) for _ in range(20)]
    assert [outcome.limit for outcome in outcomes] == ["unauthenticated"] * 5 + ["auth_failures"] * 15
    assert sum(outcome.verified for outcome in outcomes) == 5
    stack.clock[0] += 12
    assert (await stack.ask(None, version=version)).limit == "unauthenticated"


async def test_a_good_credential_is_not_refused_for_its_neighbours_bad_one(stack: Stack) -> None:
    """Keys are good from the start, tokens once they were verified; unknown ones have to wait."""
    assert (await stack.ask(TOKEN_OF_CAROL, credential="token of carol")).through
    await stack.admitted(None, 20)
    assert (await stack.ask(ALICE, credential=KEY)).through
    assert (await stack.ask(TOKEN_OF_CAROL, credential="token of carol")).through
    assert (await stack.ask(TOKEN_OF_CAROL, credential="another token")).limit == "auth_failures"


async def test_a_token_that_has_gone_bad_is_good_no_longer(stack: Stack) -> None:
    """An expired token is counted like any bad one."""
    await stack.ask(TOKEN_OF_CAROL, credential="token of carol")
    outcomes = [await stack.ask(None, credential="token of carol") for _ in range(20)]
    assert sum(outcome.verified for outcome in outcomes) == 5


async def test_concurrent_bad_credentials_are_no_way_around(stack: Stack) -> None:
    """When many are verified at the same time, the limit decides after it."""
    exchanges = [(await stack.ask(None, address="other")).exchange for _ in range(20)]
    for exchange in exchanges:
        exchange.address = "192.0.2.9"
    answers = await asyncio.gather(*(stack.limits.auth_failed(exchange) for exchange in exchanges))
    assert answers.count(None) == 5


async def test_a_credential_in_doubt_counts_as_a_failed_one_unless_it_was_good(stack: Stack) -> None:
    """While keys cannot be fetched: what nobody has verified is refused after 5, and what was good goes on."""
    known = (await stack.ask(TOKEN_OF_CAROL, credential="token of carol")).exchange
    unknown = (await stack.ask(None, address="192.0.2.8")).exchange
    unknown.address = "192.0.2.9"
    answers = [await stack.limits.auth_in_doubt(unknown) for _ in range(7)]
    known.address = "192.0.2.9"

    assert [answer and answer.status for answer in answers] == [None] * 5 + [429] * 2
    assert stack.limits.refusals["auth_failures"] == 2
    assert await stack.limits.auth_in_doubt(known) is None


async def test_a_credential_in_doubt_is_one_request(stack: Stack) -> None:
    """Its address has paid for it with the failure, and does not pay again at its end."""
    nothing: Any = None
    exchange = open_exchange({"type": "http", "method": "POST", "path": "/mcp", "headers": []}, nothing, nothing)
    exchange.address = "192.0.2.1"
    assert await stack.limits.address(exchange) is None
    assert await stack.limits.auth_in_doubt(exchange) is None
    for release in exchange.on_end:
        release()
    assert await stack.strangers(50) == 29


@pytest.mark.parametrize("method", ["tools/list", "initialize", "server/discover"])
async def test_strangers_and_callers_have_half_of_the_memory_each(method: str) -> None:
    """Whatever either of them floods the server with, the buckets of the other are told apart as before."""
    values: dict[str, Any] = {"_env_file": None, **RATES}
    callers = [Principal("api_key", f"caller {number}") for number in range(40)]
    for flood in ("strangers", "callers"):
        limits = RateLimits(HardeningSettings(**values), TokenBuckets(20, lambda: 1000.0))
        stack = Stack(limits, [])
        for number in range(40):
            who = callers[number] if flood == "callers" else None
            given = {"credential": KEY} if who else {}
            await stack.ask(who, method=method, address=f"198.51.100.{number}", **given)
        if flood == "strangers":
            assert [await stack.admitted(one, 12, credential=KEY) for one in (ALICE, BOB)] == [10, 10]
        else:
            assert [await stack.strangers(32, f"192.0.2.{number}") for number in range(2)] == [30, 30]


async def test_who_sends_no_credential_counts_as_a_request_only(stack: Stack) -> None:
    """The first request of every client is one without a token; it is no failed attempt."""
    assert await stack.strangers(20) == 20
    assert (await stack.ask(None)).limit == "unauthenticated"
    assert await stack.strangers(20) == 9
    assert (await stack.ask(BOB)).limit == "address"


@ERAS
async def test_initialize_has_a_tighter_limit(stack: Stack, version: str) -> None:
    """New legacy connections of one caller are fewer than requests; what is open goes on."""
    assert await stack.admitted(method="initialize", version=version) == 8
    assert (await stack.ask(method="initialize", version=version)).limit == "initialize"
    assert (await stack.ask(version=version)).through
    assert (await stack.ask(BOB, method="initialize", version=version)).through


async def test_discover_has_a_bucket_of_its_own(stack: Stack) -> None:
    """An address or a caller that is refused everything else can still find out which era this is."""
    await stack.admitted(ALICE, 20)
    await stack.strangers(50)
    assert (await stack.ask(ALICE, credential=KEY)).limit == "principal"
    assert (await stack.ask(BOB)).limit == "address"
    assert await stack.admitted(ALICE, method="server/discover") == 12
    assert (await stack.ask(ALICE, method="server/discover")).limit == "discover"
    assert (await stack.ask(BOB, method="server/discover")).through


async def test_discover_with_bad_credentials_ends_too(stack: Stack) -> None:
    """The exemption is a bucket, not a hole."""
    outcomes = [await stack.ask(None, method="server/discover") for _ in range(30)]
    assert sum(outcome.verified for outcome in outcomes) == 5
    assert (await stack.ask(None)).limit == "auth_failures"
    exchanges = [(await stack.ask(BOB, method="server/discover", address=str(each))).exchange for each in range(20)]
    for exchange in exchanges:
        exchange.address, exchange.principal = "192.0.2.9", None
    answers = await asyncio.gather(*(stack.limits.auth_failed(exchange) for exchange in exchanges))
    assert answers.count(None) == 5


async def test_a_false_claim_to_discover_gains_nothing(stack: Stack) -> None:
    """What the message says counts, not what its header says."""
    await stack.admitted()
    exchange = (await stack.ask(BOB, method="server/discover", address="other")).exchange
    exchange.principal, exchange.rpc_method = ALICE, "tools/call"
    answer = await stack.limits.message(exchange)
    assert answer is not None
    assert dict(answer.data)["limit"] == "principal"


@ERAS
async def test_the_probe_is_never_refused_because_of_others(stack: Stack, version: str) -> None:
    """It passes when its address has used up everything, and uses up nothing itself."""
    await stack.admitted(None, 20)
    await stack.strangers(50)
    assert await stack.admitted(PROBE, credential=PROBE_KEY, version=version) == 7
    assert (await stack.ask(PROBE, credential=PROBE_KEY, version=version)).limit == "probe"


async def test_the_probe_uses_up_nothing_of_others(stack: Stack) -> None:
    """An address with a monitor has as much as one without."""
    await stack.admitted(PROBE, credential=PROBE_KEY)
    assert await stack.strangers(50) == 30


@ERAS
async def test_a_tool_over_its_rate_is_refused_as_a_result(stack: Stack, version: str) -> None:
    """The transport lets the call through; the tool says when to call again; other tools go on."""
    outcomes = [await stack.ask(method="tools/call", tool="forecast", version=version) for _ in range(8)]
    assert [outcome.answer for outcome in outcomes] == [None] * 8
    assert [outcome.decision.allowed for outcome in outcomes] == [True] * 6 + [False] * 2
    failure = tool_failure(outcomes[-1].decision)
    assert isinstance(failure, RateLimited)
    assert failure.retry_after_seconds == 10
    assert (await stack.ask(method="tools/call", tool="rare", version=version)).through
    assert (await stack.ask(BOB, method="tools/call", tool="forecast", version=version)).through


async def test_a_tool_has_the_rate_that_it_declares(stack: Stack) -> None:
    """The declaration beside the tool comes before the default."""
    assert await stack.admitted(method="tools/call", tool="rare") == 2


async def test_calls_over_a_tools_rate_count_as_requests(stack: Stack) -> None:
    """A loop around a refused tool ends at the caller's own limit."""
    outcomes = [await stack.ask(method="tools/call", tool="rare") for _ in range(12)]
    assert [outcome.answer is None for outcome in outcomes] == [True] * 10 + [False] * 2


async def test_a_budget_is_shared_by_all_tools_of_a_caller(stack: Stack) -> None:
    """Cost units are counted for each caller over the window; what costs nothing goes on."""
    stack.limits.declare("dearer", rate_per_minute=600, cost=50)
    assert await stack.admitted(method="tools/call", tool="dear", attempts=2) == 2
    outcome = await stack.ask(method="tools/call", tool="dearer")
    assert outcome.limit == "budget"
    failure = tool_failure(outcome.decision)
    assert isinstance(failure, BudgetExhausted)
    assert not isinstance(failure, RateLimited)
    assert failure.retry_after_seconds == 100
    assert (await stack.ask(method="tools/call", tool="dear")).through
    assert (await stack.ask(method="tools/call", tool="forecast")).through
    assert (await stack.ask(BOB, method="tools/call", tool="dearer")).through


async def test_a_budget_comes_back_when_a_call_was_cancelled(stack: Stack) -> None:
    """What was not used is given back once; the call still counts for the tool's rate."""
    await stack.ask(method="tools/call", tool="dear")
    outcome = await stack.ask(method="tools/call", tool="dear")
    for _ in range(3):
        stack.limits.give_back(outcome.exchange)
    assert await stack.admitted(method="tools/call", tool="dear", attempts=5) == 2
    stack.limits.declare("once", rate_per_minute=1, cost=1)
    stack.limits.give_back((await stack.ask(BOB, method="tools/call", tool="once")).exchange)
    assert (await stack.ask(BOB, method="tools/call", tool="once")).limit == "tool"


async def test_a_refused_call_has_nothing_to_give_back(stack: Stack) -> None:
    """Who was refused has paid nothing, so nothing is returned."""
    await stack.admitted(method="tools/call", tool="dear", attempts=3)
    refused = await stack.ask(method="tools/call", tool="dear")
    stack.limits.give_back(refused.exchange)
    assert (await stack.ask(method="tools/call", tool="dear")).limit == "budget"


async def test_a_second_call_within_one_request_is_asked_for(stack: Stack) -> None:
    """One decision is for one call."""
    exchange = (await stack.ask(method="tools/call", tool="rare")).exchange
    assert (await stack.limits.tool(exchange, "rare")).allowed
    assert not (await stack.limits.tool(exchange, "rare")).allowed


async def test_a_call_that_no_guard_has_counted_is_counted_by_itself(stack: Stack) -> None:
    """As on standard input: rate and budget hold, and what a call has paid comes back where it was cancelled."""
    refused, cancelled = [(await stack.ask(who)).exchange for who in (ALICE, BOB)]
    assert [(await stack.limits.tool(refused, "dear")).allowed for _ in range(4)] == [True] * 3 + [False]
    stack.limits.give_back(refused)
    assert not (await stack.limits.tool(refused, "dear")).allowed, "who was refused has paid nothing"
    assert (await stack.limits.tool(cancelled, "dear")).allowed
    stack.limits.give_back(cancelled)
    assert [(await stack.limits.tool(cancelled, "dear")).allowed for _ in range(4)] == [True] * 3 + [False]


async def test_a_call_outside_a_request_is_not_limited(stack: Stack) -> None:
    """The author's tests call tools in process."""
    assert (await stack.limits.tool(None, "rare")).allowed


def test_a_tool_that_could_never_be_called_is_refused_at_start(stack: Stack) -> None:
    """The error names the setting to change."""
    with pytest.raises(ValueError, match="MCP_BUDGET_UNITS"):
        stack.limits.declare("impossible", cost=101)
    stack.limits.declare("all of it", cost=100)


@pytest.mark.parametrize(("length", "read"), [(200, True), (65_536, True), (65_537, False), (None, False)])
async def test_no_large_body_is_read_of_a_caller_over_its_limit(
    stack: Stack, length: int | None, *, read: bool
) -> None:
    """Up to 64 KiB are read, so that the refusal carries the id; more is not, nor what does not say how long it is."""
    await stack.admitted()
    outcome = await stack.ask(length=length)
    assert outcome.limit == "principal"
    assert outcome.body_read is read


async def test_a_request_that_ends_before_it_is_understood_counts(stack: Stack) -> None:
    """Malformed or unauthorised requests of a caller use up its own limit."""
    for _ in range(10):
        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/mcp", "headers": []}
        nothing: Any = None
        exchange = open_exchange(scope, nothing, nothing)
        exchange.address = "192.0.2.1"
        await stack.limits.address(exchange)
        exchange.principal = ALICE
        for release in exchange.on_end:
            release()
    assert (await stack.ask()).limit == "principal"
    assert (await stack.ask(BOB)).through


async def test_refusals_are_counted_by_limit(stack: Stack) -> None:
    """What a metric shows is which limit refuses, and how often."""
    await stack.admitted(attempts=12)
    await stack.admitted(BOB, 3, method="tools/call", tool="rare")
    assert stack.limits.refusals == {"principal": 2, "tool": 1}


# Low, so that nothing comes back while a test runs, however slow the machine is.
LOW = {
    "MCP_RATE_PRINCIPAL_PER_MINUTE": "1",
    "MCP_RATE_PRINCIPAL_BURST": "12",
    "MCP_RATE_TOOL_PER_MINUTE": "2",
    "MCP_RATE_AUTH_FAILURES_PER_MINUTE": "2",
}
ON_THE_WIRE = pytest.mark.parametrize("era", wire.ERAS)
BAD_KEY = "bad-key-0123456789-0123456789-0123456789"


@pytest.fixture
async def client() -> AsyncIterator[wire.Wire]:
    """Return a client of alice, of a server on a socket with low limits."""
    with live.live(**LOW) as server:
        async with wire.Wire(server.url, live.KEY) as client:
            yield client


@ON_THE_WIRE
async def test_on_the_wire_a_refusal_carries_id_and_time_and_harms_nobody(client: wire.Wire, era: wire.Era) -> None:
    """429, `Retry-After`, a JSON-RPC error with the id of the request; other callers and the probe go on."""
    replies = [await client.ask(era, "tools/list", rpc_id=f"id {number}") for number in range(40)]
    assert [reply.status for reply in replies] == [200] * 12 + [429] * 28
    refused = replies[-1]
    assert refused.message["id"] == "id 39"
    assert 1 <= refused.error["data"]["retryAfter"] == int(refused.headers["retry-after"]) <= 60
    assert refused.error["data"]["limit"] == "principal"
    assert refused.headers["x-request-id"] == refused.error["data"]["reference"]
    assert b"alice" not in refused.body
    for key in (live.OTHER_KEY, live.PROBE_KEY):
        assert (await client.ask(era, "tools/list", key=key)).status == 200


@ON_THE_WIRE
async def test_on_the_wire_a_tool_over_its_rate_answers_a_result(client: wire.Wire, era: wire.Era) -> None:
    """`isError`, and when to call again; the connection and the other tools live."""
    replies = [await client.call(era, "echo", {"text": "hello"}) for _ in range(5)]
    assert [reply.status for reply in replies] == [200] * 5
    assert [bool(reply.result.get("isError")) for reply in replies] == [False] * 2 + [True] * 3
    assert replies[-1].text.startswith("rate_limited")
    assert "Retry after" in replies[-1].text
    assert not (await client.call(era, "who")).result.get("isError")


@ON_THE_WIRE
async def test_on_the_wire_bad_credentials_end_and_good_ones_go_on(client: wire.Wire, era: wire.Era) -> None:
    """After a few 401 comes 429, at the same address a good key is served, in discovery too."""
    replies = [await client.ask(era, "tools/list", key=BAD_KEY) for _ in range(6)]
    assert [reply.status for reply in replies] == [401] * 2 + [429] * 4
    assert replies[-1].error["data"]["limit"] == "auth_failures"
    assert (await client.ask(era, "tools/list")).status == 200
    assert (await client.ask("modern", "server/discover", key=BAD_KEY)).status == 429
