"""Rate limits by address, caller, tool and budget (429, or a tool result `rate_limited`, `budget_exhausted`).

A request over a limit is refused before it costs anything, and uses up nothing that it shares with others.
Layer 1 counts strangers by address, before authentication, and whoever is known by caller: 429.
Callers behind one address (a gateway, an office) use up nothing of each other's.
Layer 3 counts by caller and tool, layer 4 by caller in cost units: a result that says when to call
again (2026-07-28, Tools: servers must limit invocations). Layer 2, how many at once, is elsewhere.

Limits are looked at early, and everything is taken at once when the message is known, in one
question to Redis where there is one. What is answered before that is counted at its end.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ..routes import DISCOVER, INITIALIZE
from .backend import open_limiter
from .known_credentials import KnownCredentials, presented
from .model import ALLOWED, Claim, Decision, Limit, Limiter
from .refusals import BUDGET, refusal

if TYPE_CHECKING:
    from ..exchange import Exchange
    from ..response import Response
    from ..settings import HardeningSettings

AUTH_FAILURES = "auth_failures"
TOOL = "tool"
STATE = "hardening.rate_limit"
IN_FLIGHT = "in_flight"
BOTH = (False, True)
SMALL_BODY_BYTES = 65_536


@dataclass(slots=True)
class _State:  # of one exchange, kept in its ASGI scope
    credential: bytes = b""
    counted: bool = False
    tool: Decision | None = None
    budget: tuple[Claim, ...] = ()


class RateLimits:
    """The limits of one server; `refusals` says how often each of them has refused."""

    def __init__(self, settings: HardeningSettings, limiter: Limiter | None = None) -> None:
        self.limiter = open_limiter(settings) if limiter is None else limiter
        self.refusals: Counter[str] = Counter()
        limit = Limit.per_minute
        self._address = limit("address", settings.rate_address_per_minute, settings.rate_address_burst, anonymous=True)
        self._failures = limit(AUTH_FAILURES, settings.rate_auth_failures_per_minute, anonymous=True)
        # Of callers and of strangers.
        self._initialize = [limit("initialize", settings.rate_initialize_per_minute, anonymous=one) for one in BOTH]
        self._discover = [limit("discover", settings.rate_discover_per_minute, anonymous=one) for one in BOTH]
        self._principal = limit("principal", settings.rate_principal_per_minute, settings.rate_principal_burst)
        tenant = settings.rate_tenant_per_minute
        self._tenant = None if tenant is None else limit("tenant", tenant)
        self._probe = limit("probe", settings.rate_probe_per_minute)
        self._budget = Limit(BUDGET, settings.budget_units, settings.budget_window_seconds)
        self._tool_rate = settings.rate_tool_per_minute
        self._tools: dict[str, tuple[Limit, int]] = {}
        self._good = KnownCredentials(settings)

    def declare(self, tool: str, *, rate_per_minute: int | None = None, cost: int = 0) -> None:
        """Say how often each caller may call a tool, and what a call costs of the caller's budget.

        Raises:
            ValueError: The tool could never be called.
        """
        if cost > self._budget.units:
            raise ValueError(f"{tool}: cost={cost} exceeds MCP_BUDGET_UNITS={self._budget.units}; raise it")
        rate = self._tool_rate if rate_per_minute is None else rate_per_minute
        self._tools[tool] = Limit.per_minute(TOOL, rate), cost

    async def address(self, exchange: Exchange) -> Response | None:
        """Rate limit of an address before authentication: requests and failed authentications (429)."""
        state = _state(exchange)
        state.credential = presented(exchange)
        exchange.on_end.append(partial(self._settle, exchange))
        decision = self.limiter.check(self._claims(exchange))
        if decision.allowed and state.credential:
            decision = self.limiter.check((Claim(self._failures, exchange.address),))
        if decision.allowed or self._good.is_probe(state.credential) or self._good.is_good(state.credential):
            return None
        return self._refuse(exchange, decision)

    async def auth_failed(self, exchange: Exchange) -> Response | None:
        """Count a failed authentication; return an answer in place of the 401 when there are too many."""
        state = _state(exchange)
        state.counted = True
        self._good.forget(state.credential)
        failure = Claim(self._failures, exchange.address)
        decision = await self.limiter.take(self._claims(exchange), (failure,))
        return None if decision.allowed else self._refuse(exchange, decision)

    async def auth_in_doubt(self, exchange: Exchange) -> Response | None:
        """Count a credential that cannot be checked now as a failed one, unless it was good before."""
        state = _state(exchange)
        if self._good.is_good(state.credential):
            return None
        state.counted = True
        decision = await self.limiter.take(self._claims(exchange), (Claim(self._failures, exchange.address),))
        return None if decision.allowed else self._refuse(exchange, decision)

    async def principal(self, exchange: Exchange) -> Response | None:
        """Rate limit of a caller before its body is read, for large bodies (429).

        After a small one, `message` can refuse with the id of the message.
        """
        if exchange.principal is not None and exchange.principal.kind == "jwt":
            self._good.remember(_state(exchange).credential)
        length = exchange.header(b"content-length")
        if length.isdigit() and int(length) <= SMALL_BODY_BYTES:
            return None
        decision = self.limiter.check(self._claims(exchange))
        return None if decision.allowed else self._refuse(exchange, decision)

    async def message(self, exchange: Exchange) -> Response | None:
        """Rate limits of address, caller, tool and budget, taken once the message is known (429, or a result)."""
        state = _state(exchange)
        state.counted = True
        tool = self._tool_claims(exchange, exchange.tool_name or "")
        decision = await self.limiter.take(self._claims(exchange), tool)
        if not decision.allowed and decision.limit not in {TOOL, BUDGET}:
            return self._refuse(exchange, decision)
        if tool:
            state.tool = decision
            state.budget = tool[1:] if decision.allowed else ()
        return None

    async def tool(self, exchange: Exchange | None, name: str) -> Decision:
        """Return whether the call may run, by rate and budget; `tool_failure` makes the answer."""
        if exchange is None:
            return ALLOWED
        state = _state(exchange)
        decision, state.tool = state.tool, None
        if decision is None:
            claims = self._tool_claims(exchange, name)
            decision = await self.limiter.take(claims)
            state.budget = claims[1:] if decision.allowed else ()
        if not decision.allowed:
            self.refusals[decision.limit] += 1
        return decision

    def give_back(self, exchange: Exchange) -> None:
        """Return the budget of a cancelled call, and of no other; the call itself still counts."""
        state = _state(exchange)
        self.limiter.charge([Claim(limit, key, -cost) for limit, key, cost in state.budget])
        state.budget = ()

    def _settle(self, exchange: Exchange) -> None:
        if not _state(exchange).counted:
            # Over its own cap a caller uses up nothing that it shares with others either.
            own = exchange.refused_by == IN_FLIGHT
            self.limiter.charge([one for one in self._claims(exchange) if not (own and one.limit.anonymous)])

    def _claims(self, exchange: Exchange) -> tuple[Claim, ...]:
        principal = exchange.principal
        if principal is not None and principal.kind == "probe":
            return (Claim(self._probe, principal.id),)
        # Without authentication everybody is the same caller, so that addresses are what tells them apart.
        known = None if principal is None or principal.kind == "none" else principal
        who = known.id if known else exchange.address
        method = _method(exchange)
        if method == DISCOVER:
            return (Claim(self._discover[known is None], who),)
        claims = () if known else (Claim(self._address, who),)
        if method == INITIALIZE:
            claims = (*claims, Claim(self._initialize[known is None], who))
        if principal is None:
            return claims
        if self._tenant is not None and principal.tenant:
            claims = (*claims, Claim(self._tenant, principal.tenant))
        return (*claims, Claim(self._principal, principal.id))

    def _tool_claims(self, exchange: Exchange, name: str) -> tuple[Claim, ...]:
        if name not in self._tools or exchange.principal is None:
            return ()
        caller = exchange.principal.id
        limit, cost = self._tools[name]
        call = Claim(limit, f"{name} {caller}")
        return (call, Claim(self._budget, caller, cost)) if cost else (call,)

    def _refuse(self, exchange: Exchange, decision: Decision) -> Response:
        _state(exchange).counted = True
        exchange.limit = decision.limit
        self.refusals[decision.limit] += 1
        return refusal(decision)


def _state(exchange: Exchange) -> _State:
    state: _State | None = exchange.scope.get(STATE)
    if state is None:
        state = exchange.scope[STATE] = _State()
    return state


def _method(exchange: Exchange) -> str:
    """Return the JSON-RPC method; before the body is read, as the modern header claims it.

    A false claim gains nothing: the protocol refuses a message whose header differs (SEP-2243).
    """
    if exchange.body is None and exchange.era == "modern":
        return exchange.header(b"mcp-method")
    return exchange.rpc_method or ""
