"""Settings of an author: every problem of any of them is one of the listed ones, and nothing secret is printed."""

from __future__ import annotations

import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from live import ENVIRONMENT
from pydantic import BaseModel, Field, HttpUrl, PostgresDsn, SecretStr, field_validator, model_validator

from hardening.settings import DatabaseUrl, HardeningSettings, Names, Pairs, RedisUrl, SecretUrl
from hardening.settings.environment import InvalidSettingsError, load, unknown_names
from hardening.settings.reference import MASK, as_env_file, as_markdown, effective, secrets_of

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "s3cret-of-the-author"  # noqa: S105 - to be looked for


class Colour(Enum):
    """Something to choose from."""

    RED = "red"


class Upstream(BaseModel):
    """A model inside the settings."""

    token: SecretStr = SecretStr("")
    password: Any = None
    retries: int = 3


class Odd:
    """A type that nothing is known of."""

    def __init__(self, text: str = SECRET) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


class Settings(HardeningSettings):
    """What authors write."""

    regions: list[str] = Field(default=[], description="Regions.")
    numbers: list[int] = Field(default=[], description="Numbers.")
    labels: dict[str, str] = Field(default={}, description="Labels.")
    names: Names = Field(default=(), description="Names.")
    rates: Pairs = Field(default={}, description="Rates.")
    colour: Colour = Field(default=Colour.RED, description="Colour.")
    upstream: Upstream = Field(default=Upstream(), description="Upstream.")
    hook: HttpUrl | None = Field(default=None, description="Hook.")
    reports: PostgresDsn | None = Field(default=None, description="Reports.")
    cache: RedisUrl | None = Field(default=None, description="Cache.")
    archive: DatabaseUrl | None = Field(default=None, description="Archive.")
    signing: SecretUrl | None = Field(default=None, description="Signing.")
    token: SecretStr = Field(default=SecretStr(""), description="Token.")
    even: int = Field(default=2, description="Even.")

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value == 13:
            raise RuntimeError(f"unlucky {value}")
        if value % 2:
            raise ValueError(f"{value} is odd")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if self.even == 4444:
            raise ValueError("even and regions do not fit")
        return self


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set variables on top of the usual ones."""

    def set_all(values: Mapping[str, str]) -> None:
        for name, value in {**ENVIRONMENT, **values}.items():
            monkeypatch.setenv(name, value)

    return set_all


def problems(settings_type: type[HardeningSettings] = Settings) -> list[str]:
    """Return what is wrong."""
    with pytest.raises(InvalidSettingsError) as invalid:
        load(settings_type)
    return invalid.value.problems


def test_lists_and_pairs_are_written_as_people_do(setting: Any) -> None:
    """Commas and equal signs are enough, and JSON works as well; models are set by their members or as JSON."""
    setting({
        "MCP_REGIONS": "eu, us",
        "MCP_NUMBERS": "5",
        "MCP_LABELS": "a=1, b=x=y",
        "MCP_NAMES": "one,two",
        "MCP_RATES": "fast=10",
        "MCP_UPSTREAM__TOKEN": SECRET,
        "MCP_UPSTREAM__RETRIES": "7",
    })  # fmt: skip
    settings = load(Settings)
    assert settings.regions == ["eu", "us"]
    assert settings.numbers == [5]
    assert settings.labels == {"a": "1", "b": "x=y"}
    assert (settings.names, settings.rates) == (("one", "two"), {"fast": "10"})
    assert (settings.upstream.token.get_secret_value(), settings.upstream.retries) == (SECRET, 7)
    assert not unknown_names(Settings, {"MCP_UPSTREAM__RETRIES": "7", "MCP_TOKEN_FILE": "/x"})


def test_every_problem_is_listed_with_its_variable(setting: Any) -> None:
    """Ours and the author's, of any type, in one run; no value is in a sentence."""
    setting({
        "MCP_AUTH": "api_keys",
        "MCP_NUMBERS": f"1,{SECRET}",
        "MCP_LABELS": SECRET,
        "MCP_RATES": SECRET,
        "MCP_COLOUR": SECRET,
        "MCP_UPSTREAM__RETRIES": SECRET,
        "MCP_HOOK": f"mailto:{SECRET}",
        "MCP_REPORTS": f"mysql://user:{SECRET}@host/name",
        "MCP_CACHE": f"redis://:{SECRET}#ss@host",
        "MCP_ARCHIVE": f"postgresql://user:{SECRET}/x@host/name",
        "MCP_SIGNING": SECRET,
        "MCP_EVEN": "99999",
        "REDIS_URL": f"redis://:{SECRET}#ss@host",
    })  # fmt: skip
    found = problems()
    told = {problem.partition(":")[0] for problem in found}
    assert told == {
        *("MCP_AUTH", "MCP_NUMBERS", "MCP_LABELS", "MCP_RATES", "MCP_COLOUR", "MCP_UPSTREAM__RETRIES", "MCP_HOOK"),
        *("MCP_REPORTS", "MCP_CACHE", "MCP_ARCHIVE", "MCP_SIGNING", "MCP_EVEN", "REDIS_URL"),
    }
    text = "\n".join(found)
    assert SECRET not in text
    assert "99999" not in text
    assert "percent-encode" in next(problem for problem in found if problem.startswith("REDIS_URL"))


@pytest.mark.parametrize(("even", "sentence"), [("13", "raised RuntimeError"), ("4444", "do not fit")])
def test_an_authors_check_never_ends_in_a_traceback(setting: Any, even: str, sentence: str) -> None:
    """Whatever a validator raises, of one field or of the whole, is a listed problem."""
    setting({"MCP_EVEN": even, "MCP_REPLICAS": "2"})
    found = problems()
    assert any(problem.startswith("Settings: ") and sentence in problem for problem in found)
    assert not any(even in problem for problem in found)
    assert any(problem.startswith("MCP_REQUEST_STATE_KEYS") for problem in found)


def test_secrets_come_from_files_too(setting: Any, tmp_path: Path) -> None:
    """`…_FILE` names a file with the secret, ours and the author's; what cannot be read is listed."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n", "utf-8")
    probe = tmp_path / "probe"
    probe.write_text("p" * 40, "utf-8")
    setting({"MCP_TOKEN_FILE": str(file), "MCP_REQUEST_STATE_KEYS_FILE": str(probe)})
    settings = load(Settings)
    assert settings.token.get_secret_value() == SECRET
    assert [key.get_secret_value() for key in settings.request_state_keys] == ["p" * 40]
    assert SECRET in set(secrets_of(settings))

    setting({"MCP_TOKEN_FILE": str(file), "MCP_TOKEN": "x", "REDIS_URL_FILE": str(tmp_path / "missing")})
    found = problems()
    assert any(problem.startswith("MCP_TOKEN_FILE: set this or MCP_TOKEN") for problem in found)
    assert any(problem.startswith("REDIS_URL_FILE: the file cannot be read") for problem in found)


def test_nothing_secret_is_shown(setting: Any) -> None:
    """URLs lose user, password and query; secrets of nested models and unknown types are masked."""

    class Shown(Settings):
        odd: Any = Field(default=Odd(), description="Odd.")
        open: Any = Field(default=Odd("said otherwise"), json_schema_extra={"shown": True}, description="Open.")

    setting({
        "MCP_HOOK": f"https://user:{SECRET}@example.com/path?key={SECRET}#{SECRET}",
        "MCP_REPORTS": f"postgresql://user:{SECRET}@one:1,two:2/name?password={SECRET}",
        "MCP_LABELS": f"a={SECRET}",
        "MCP_UPSTREAM__TOKEN": SECRET,
        "MCP_UPSTREAM__PASSWORD": f'{{"inner": "{SECRET}"}}',
        "MCP_PUBLIC_URL": f"https://user:{SECRET}@example.com",
        "MCP_SIGNING": f"https://example.com/{SECRET}",
    })  # fmt: skip
    settings = Shown()
    shown = effective(settings)
    assert SECRET not in str(shown)
    assert SECRET not in as_env_file(Shown) + as_markdown(Shown)
    assert shown["MCP_HOOK"] == f"https://example.com/path?{MASK}"
    assert shown["MCP_REPORTS"] == f"postgresql://one:1,two:2/name?{MASK}"
    assert (shown["MCP_LABELS"], shown["MCP_SIGNING"]) == (MASK, MASK)
    assert "#MCP_OPEN=said otherwise" in as_env_file(Shown)


def test_a_password_that_was_not_encoded_ends_the_start_in_one_sentence(tmp_path: Path) -> None:
    """The process itself: exit 78, no traceback, no part of the password."""
    script = "import runpy, sample; runpy.run_path(sample.__file__, run_name='__main__')"
    support = str(Path(sys.modules["live"].__file__ or "").parent)
    environment = {
        **ENVIRONMENT,
        "REDIS_URL": "redis://:pa#ss@h",
        "PYTHONPATH": support,
        "PATH": "",
        "HOME": str(tmp_path),
    }
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 78
    assert "REDIS_URL: percent-encode" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "pa#" not in ended.stderr
