"""The boot matrix: what starts, and what is refused by the name of the variable to change."""

from __future__ import annotations

import os

import pytest
from live import ENVIRONMENT, KEY, settings_from

from hardening.settings import HardeningSettings
from hardening.settings.environment import InvalidSettingsError, load, unknown_names

LONG = "x" * 32
JWT = {
    "MCP_AUTH": "jwt",
    "MCP_JWT_ISSUER": "https://login.example.com",
    "MCP_JWT_AUDIENCE": "https://mcp.example.com/mcp",
}
PUBLIC = {"HOST": "0.0.0.0", "MCP_PUBLIC_URL": "https://mcp.example.com"}

STARTS = {
    "keys": {},
    "one key": {"MCP_API_KEYS": "", "MCP_API_KEY": KEY},
    "a digest": {"MCP_API_KEYS": f"alice:sha256:{'ab' * 32}"},
    "no authentication on this machine": {"MCP_AUTH": "none", "MCP_API_KEYS": ""},
    "tokens": JWT,
    "both": {**JWT, "MCP_AUTH": "api_key,jwt"},
    "public": PUBLIC,
    "IPv6 loopback": {"MCP_AUTH": "none", "HOST": "::1"},
    "postgres": {"DATABASE_URL": "postgres://user@db/name"},
    "redis over TLS": {"REDIS_URL": "rediss://cache:6380/0"},
    "replicas": {"MCP_REPLICAS": "3", "MCP_REQUEST_STATE_KEYS": f"{LONG},{LONG}y"},
}
REFUSED = {
    "nothing chosen": ({"MCP_AUTH": ""}, "MCP_AUTH"),
    "an unknown mode": ({"MCP_AUTH": "basic"}, "MCP_AUTH"),
    "none and a mode": ({"MCP_AUTH": "none,api_key"}, "MCP_AUTH"),
    "none on every address": ({"MCP_AUTH": "none", **PUBLIC}, "MCP_AUTH"),
    "none on a private address": ({"MCP_AUTH": "none", "HOST": "10.0.0.1"}, "MCP_AUTH"),
    "no key": ({"MCP_API_KEYS": ""}, "MCP_API_KEYS"),
    "a short key": ({"MCP_API_KEYS": "alice:short"}, "MCP_API_KEYS"),
    "a short digest": ({"MCP_API_KEYS": "alice:sha256:abcd"}, "MCP_API_KEYS"),
    "a short probe key": ({"MCP_PROBE_KEY": "short"}, "MCP_PROBE_KEY"),
    "a probe key that opens more": ({"MCP_PROBE_KEY": KEY}, "MCP_PROBE_KEY"),
    "tokens of nobody": ({**JWT, "MCP_JWT_ISSUER": ""}, "MCP_JWT_ISSUER"),
    "tokens for anybody": ({**JWT, "MCP_JWT_AUDIENCE": ""}, "MCP_JWT_AUDIENCE"),
    "public without a URL": ({"HOST": "0.0.0.0"}, "MCP_PUBLIC_URL"),
    "a URL that is none": ({"MCP_PUBLIC_URL": "mcp.example.com"}, "MCP_PUBLIC_URL"),
    "the wrong database": ({"DATABASE_URL": "mysql://db/name"}, "DATABASE_URL"),
    "the wrong cache": ({"REDIS_URL": "http://cache"}, "REDIS_URL"),
    "a port that is none": ({"PORT": "70000"}, "MCP_PORT"),
    "a port in words": ({"PORT": "http"}, "MCP_PORT"),
    "a limit of zero": ({"MCP_MAX_BODY_BYTES": "0"}, "MCP_MAX_BODY_BYTES"),
    "a deadline without end": ({"MCP_TOOL_TIMEOUT_SECONDS": "inf"}, "MCP_TOOL_TIMEOUT_SECONDS"),
    "a negative delay": ({"MCP_READINESS_DELAY_SECONDS": "-1"}, "MCP_READINESS_DELAY_SECONDS"),
    "a drain that cuts calls": ({"MCP_DRAIN_TIMEOUT_SECONDS": "20"}, "MCP_DRAIN_TIMEOUT_SECONDS"),
    "a pool upside down": ({"MCP_POOL_MIN_SIZE": "20"}, "MCP_POOL_MIN_SIZE"),
    "a pool for more calls than there can be": (
        {"DATABASE_URL": "postgres://user@db/name", "MCP_POOL_MAX_SIZE": "101"},
        "MCP_POOL_MAX_SIZE",
    ),
    "a cap upside down": ({"MCP_MAX_IN_FLIGHT": "5"}, "MCP_MAX_IN_FLIGHT_PER_PRINCIPAL"),
    "replicas without keys": ({"MCP_REPLICAS": "2"}, "MCP_REQUEST_STATE_KEYS"),
    "replicas with a short key": ({"MCP_REPLICAS": "2", "MCP_REQUEST_STATE_KEYS": "short"}, "MCP_REQUEST_STATE_KEYS"),
    "an unknown era": ({"MCP_LEGACY": "yes"}, "MCP_LEGACY"),
    "an unknown level": ({"MCP_LOG_LEVEL": "loud"}, "MCP_LOG_LEVEL"),
    "an unknown format": ({"MCP_LOG_FORMAT": "xml"}, "MCP_LOG_FORMAT"),
}


@pytest.mark.parametrize("environment", STARTS.values(), ids=STARTS.keys())
def test_starts(environment: dict[str, str]) -> None:
    """These settings fit together."""
    settings = settings_from(ENVIRONMENT | environment)

    assert settings.auth


@pytest.mark.parametrize(("environment", "variable"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(environment: dict[str, str], variable: str) -> None:
    """These do not, and the sentence begins with the variable to change."""
    with pytest.raises(InvalidSettingsError) as refused:
        settings_from(ENVIRONMENT | environment)

    assert variable in {problem.partition(":")[0] for problem in refused.value.problems}


def test_lists_every_problem_at_once() -> None:
    """One start tells everything there is to mend, what does not fit together included."""
    environment = {
        "MCP_AUTH": "",
        "PORT": "0.5",
        "REDIS_URL": "x",
        "MCP_DRAIN_TIMEOUT_SECONDS": "20",
        "HOST": "0.0.0.0",
    }
    with pytest.raises(InvalidSettingsError) as refused:
        settings_from(environment)

    named = {problem.partition(":")[0] for problem in refused.value.problems}
    assert named == {"MCP_AUTH", "MCP_PORT", "REDIS_URL", "MCP_DRAIN_TIMEOUT_SECONDS", "MCP_PUBLIC_URL"}


@pytest.mark.parametrize(
    "name", ["MCP_API_KEYS", "MCP_PROBE_KEY", "DATABASE_URL", "REDIS_URL", "MCP_REQUEST_STATE_KEYS"]
)
def test_no_problem_shows_a_value(name: str) -> None:
    """A secret with a mistake in it is still a secret."""
    with pytest.raises(InvalidSettingsError) as refused:
        settings_from(ENVIRONMENT | {"MCP_REPLICAS": "2", name: "s3cret-pa55"})

    assert "s3cret" not in str(refused.value.problems)


def test_a_refused_start_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is broken is set aside while the rest is checked, and put back: another program may be started with it."""
    for name, value in {**ENVIRONMENT, "MCP_PORT": "http", "MCP_PROBE_KEY": "short"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PORT")
    before = dict(os.environ)
    with pytest.raises(InvalidSettingsError):
        load(HardeningSettings)

    assert dict(os.environ) == before


def test_a_typing_mistake_does_not_pass_in_silence() -> None:
    """A variable that means nothing is named, with the one that was probably meant."""
    sentences = unknown_names(HardeningSettings, {"MCP_TOOL_TIMEOUT_SECOND": "5", "MCP_PORT": "1", "PATH": ""})

    assert sentences == ["MCP_TOOL_TIMEOUT_SECOND: no such setting; did you mean MCP_TOOL_TIMEOUT_SECONDS?"]


def test_every_setting_says_what_it_is_for() -> None:
    """The generated files have no empty line of meaning, and every number has bounds."""
    for name, field in HardeningSettings.model_fields.items():
        assert field.description, name
        if field.annotation in {int, float}:
            bounds = {bound for item in field.metadata for bound in ("ge", "le") if hasattr(item, bound)}
            assert bounds == {"ge", "le"}, name
