"""Problems of the settings about who may call: all of them, by field, without a value."""

from __future__ import annotations

from typing import Any

import pytest
from live import KEY, PROBE_KEY

from hardening.settings import HardeningSettings, checks

GOOD = {
    "MCP_AUTH": "api_key,jwt",
    "MCP_API_KEYS": f"alice:{KEY}",
    "MCP_PROBE_KEY": PROBE_KEY,
    "MCP_JWT_ISSUER": "https://login.example.com",
    "MCP_JWT_JWKS_URL": "https://keys.example.com/keys",
    "MCP_PUBLIC_URL": "https://mcp.example.com",
    "MCP_REQUIRED_SCOPES": "use",
    "MCP_IMPLIED_SCOPES": "notes:admin=notes:read,notes:admin=notes:write",
}
BAD = {
    "MCP_PROBE_KEY": KEY,
    "MCP_JWT_ISSUER": "http://login.example.com",
    "MCP_JWT_JWKS_URL": "http://keys.example.com/keys",
    "MCP_PUBLIC_URL": "weather.example.net",
    "MCP_REQUIRED_SCOPES": 'quo"te',
    "MCP_IMPLIED_SCOPES": "all-powerful",
}


def problems(monkeypatch: pytest.MonkeyPatch, **changes: str) -> list[tuple[str, str]]:
    """Return what is wrong with the good settings after these changes."""
    for name, value in (GOOD | changes).items():
        monkeypatch.setenv(name, value)
    kind: Any = HardeningSettings
    return checks.problems(kind())


def test_good_settings_have_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made up."""
    assert problems(monkeypatch) == []


@pytest.mark.parametrize("name", BAD)
def test_each_problem_is_found_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guard would refuse is found before the port opens, under the field's name."""
    assert [field for field, _ in problems(monkeypatch, **{name: BAD[name]})] == [name.removeprefix("MCP_").lower()]


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One start names everything that is wrong, and no value."""
    found = problems(monkeypatch, **BAD)

    assert {f"MCP_{field.upper()}" for field, _ in found} == set(BAD)
    assert not any(value in sentence for value in BAD.values() for _, sentence in found)


def test_a_weak_probe_key_is_told_with_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitor's key obeys the rules of every key."""
    assert problems(monkeypatch, MCP_PROBE_KEY="short") == [
        ("probe_key", "use at least 32 characters, e.g. openssl rand -hex 32")
    ]
