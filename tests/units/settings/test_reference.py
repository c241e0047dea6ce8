"""What the operator sees of the settings: complete, generated, without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from live import ENVIRONMENT, KEY, settings_from

from hardening.settings import HardeningSettings
from hardening.settings.environment import variables
from hardening.settings.reference import as_env_file, as_markdown, effective, main

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_start_line_masks_every_secret() -> None:
    """What differs from the defaults is shown; a key is not."""
    shown = effective(settings_from(ENVIRONMENT | {"DATABASE_URL": f"postgres://u:{KEY}@db/n"}))

    assert shown["MCP_AUTH"] == "api_key"
    assert KEY not in str(shown)
    assert shown["DATABASE_URL"] == "********"


@pytest.mark.parametrize("generate", [as_env_file, as_markdown])
def test_generated_files_name_every_setting(generate: Callable[[type[HardeningSettings]], str]) -> None:
    """Nothing can be set that is not documented."""
    text = generate(HardeningSettings)

    for field in HardeningSettings.model_fields:
        assert variables(HardeningSettings, field)[0] in text


def test_every_line_of_the_example_is_commented_out() -> None:
    """Copying it to `.env` changes nothing."""
    lines = as_env_file(HardeningSettings).splitlines()

    assert all(not line or line.startswith("#") for line in lines)


def test_shows_where_each_value_comes_from(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An operator sees which variable won."""
    for name, value in (ENVIRONMENT | {"PORT": "8123"}).items():
        monkeypatch.setenv(name, value)
    code = main([], HardeningSettings)

    printed = capsys.readouterr().out
    assert code == 0
    assert "MCP_PORT=8123  # PORT" in printed
    assert "MCP_TOOL_TIMEOUT_SECONDS=30  # default" in printed
    assert KEY not in printed


def test_a_url_is_shown_without_its_secrets() -> None:
    """Neither user nor password nor query of an address is printed, at the start or by `settings`."""
    environment = {
        "MCP_JWT_JWKS_URL": "https://login.example.com/keys?key=hidden-in-query#hidden-in-fragment",
        "MCP_JWT_ISSUER": "https://hidden-user:hidden@login.example.com/tenant",
        "MCP_ALLOWED_ORIGINS": "https://hidden@a.example.com,https://b.example.com",
    }
    fields = {name.lower().removeprefix("mcp_"): value for name, value in environment.items()}
    shown = effective(HardeningSettings(**fields))

    assert "hidden" not in str(shown)
    assert shown["MCP_JWT_JWKS_URL"] == "https://login.example.com/keys?********"
    assert shown["MCP_JWT_ISSUER"] == "https://login.example.com/tenant"
    assert shown["MCP_ALLOWED_ORIGINS"] == "https://a.example.com,https://b.example.com"
