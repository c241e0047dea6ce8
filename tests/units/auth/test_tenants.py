"""Claims that the operator allows reach tools, and a tenant is counted as one whatever number of callers it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from live import ENVIRONMENT, Live, settings_from
from wire import ERAS, Era, Wire, opening

from hardening import Context, harden, tool
from hardening.dev.issuer import LocalIssuer
from hardening.settings.environment import InvalidSettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIENCE = "https://mcp.example.com/mcp"


@tool(read_only=True)
async def whoami(ctx: Context) -> dict[str, Any]:
    """Say who is calling, as the server sees it."""
    return {"tenant": ctx.principal.tenant, "claims": dict(ctx.principal.claims), "name": ctx.principal.name}


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    """An issuer on this machine."""
    with LocalIssuer() as one:
        yield one


def serving(issuer: LocalIssuer, **environment: str) -> Live:
    """Serve with tokens of that issuer."""
    given = {"MCP_JWT_CLAIMS": "email,plan", "MCP_TENANT_CLAIM": "org", **environment}
    settings = settings_from(ENVIRONMENT | issuer.environment(AUDIENCE) | given)
    return Live(settings, lambda settings: harden(settings, tools=(whoami,)))


@pytest.mark.parametrize("era", ERAS)
async def test_allowed_claims_and_the_tenant_reach_a_tool(issuer: LocalIssuer, era: Era) -> None:
    """Claims that are not named stay behind."""
    token = issuer.token(AUDIENCE, org="acme", email="a@example.com", secret="s3cret")  # noqa: S106 - the point of it
    with serving(issuer) as live:
        async with Wire(live.url, token) as wire:
            result = (await wire.ask(era, "tools/call", {"name": "whoami", "arguments": {}})).result

    expected = {"tenant": "acme", "claims": {"email": "a@example.com"}, "name": "developer"}
    assert result["structuredContent"] == expected


@pytest.mark.parametrize("org", [None, "", 7, ["acme"], "a\nb", "x" * 256])
async def test_a_token_without_a_tenant_is_refused(issuer: LocalIssuer, org: object) -> None:
    """Nobody's rows are not everybody's: 401."""
    claims = {} if org is None else {"org": org}
    with serving(issuer) as live:
        async with Wire(live.url, issuer.token(AUDIENCE, **claims)) as wire:
            assert (await wire.ask("modern", "tools/list")).status == 401


@pytest.mark.parametrize("era", ERAS)
async def test_ten_keys_of_a_tenant_get_what_one_gets(era: Era) -> None:
    """The rate of a tenant is shared by its callers; another tenant has its own, and the probe none."""
    keys = {f"k{number}": f"k{number}-0123456789-0123456789-0123456789" for number in range(12)}
    tenants = ",".join(f"k{number}={'acme' if number < 10 else 'beta'}" for number in range(12))
    environment = {
        "MCP_API_KEYS": ",".join(f"{name}:{key}" for name, key in keys.items()),
        "MCP_API_KEY_TENANTS": tenants,
        "MCP_RATE_TENANT_PER_MINUTE": "5",
    }
    settings = settings_from(ENVIRONMENT | environment)
    with Live(settings, lambda settings: harden(settings, tools=(whoami,))) as live:
        statuses: list[int] = []
        for key in list(keys.values())[:10]:
            async with Wire(live.url, key) as wire:
                reply = await wire.ask(era, "tools/list")
                statuses.append(reply.status)
        async with Wire(live.url, keys["k10"]) as wire:
            other = await wire.ask(era, "tools/list")

    assert statuses == [200] * 5 + [429] * 5
    assert reply.error["data"]["limit"] == "tenant"
    assert other.status == 200


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({"MCP_API_KEY_TENANTS": "nobody=acme"}, "MCP_API_KEY_TENANTS"),
        ({"MCP_API_KEY_TENANTS": "alice"}, "MCP_API_KEY_TENANTS"),
        ({"MCP_RATE_TENANT_PER_MINUTE": "5"}, "MCP_RATE_TENANT_PER_MINUTE"),
    ],
)
def test_a_tenant_that_nobody_has_ends_the_start(environment: dict[str, str], variable: str) -> None:
    """A setting that could have no effect is refused."""
    with pytest.raises(InvalidSettingsError) as raised:
        settings_from(ENVIRONMENT | environment)

    assert [problem.partition(":")[0] for problem in raised.value.problems] == [variable]


@tool(read_only=False, destructive=True, confirm=True)
async def empty(ctx: Context) -> str:
    """Throw away everything of a tenant."""
    return ctx.principal.tenant


async def test_what_a_person_has_agreed_to_holds_for_the_tenant_alone(issuer: LocalIssuer) -> None:
    """The answer to a question that was asked for one tenant does nothing in another one of the same person."""
    meta = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
    environment = issuer.environment(AUDIENCE) | {"MCP_TENANT_CLAIM": "org"}
    settings = settings_from(ENVIRONMENT | environment)
    with Live(settings, lambda settings: harden(settings, tools=(empty,))) as live:

        async def ask(tenant: str, **more: Any) -> Any:
            async with Wire(live.url, issuer.token(AUDIENCE, org=tenant)) as wire:
                params = {"name": "empty", "arguments": {}, "_meta": meta, **more}
                return await wire.ask("modern", "tools/call", params)

        asked = (await ask("acme")).result
        agreed = {
            "inputResponses": {
                key: {"action": "accept", "content": {"confirm": True}} for key in asked["inputRequests"]
            },
            "requestState": asked["requestState"],
        }
        elsewhere, here = await ask("other", **agreed), await ask("acme", **agreed)

    assert (elsewhere.status, elsewhere.error["code"]) == (400, -32602)
    assert here.result["structuredContent"] == {"result": "acme"}


async def test_a_session_is_one_tenants(issuer: LocalIssuer) -> None:
    """The same person with a token of another tenant finds no session of that id: 404, as for a stranger."""
    with serving(issuer, MCP_LEGACY="stateful") as live:
        async with Wire(live.url, issuer.token(AUDIENCE, org="acme")) as wire:
            session = {"mcp-session-id": (await wire.ask("legacy", *opening("legacy"))).headers["mcp-session-id"]}
            own = await wire.ask("legacy", "ping", headers=session)
        async with Wire(live.url, issuer.token(AUDIENCE, org="other")) as wire:
            other = await wire.ask("legacy", "ping", headers=session)

    assert (own.status, other.status) == (200, 404)


def test_a_key_has_one_tenant() -> None:
    """Two of them for one key end the start: which one counts would be chance."""
    with pytest.raises(InvalidSettingsError) as raised:
        settings_from(ENVIRONMENT | {"MCP_API_KEY_TENANTS": "alice=acme,alice=other"})

    assert raised.value.problems == ["MCP_API_KEY_TENANTS: a key has one tenant, and one of these has several"]
