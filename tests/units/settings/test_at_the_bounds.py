"""What settings accept and refuse on either side of each rule, and the sentences, to the letter."""

from __future__ import annotations

import os
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from live import KEY, PROBE_KEY
from pydantic import AfterValidator, BaseModel, Field, HttpUrl, SecretBytes, SecretStr

from hardening.settings import HardeningSettings, Names, Pairs, SecretUrl, checks, environment, networks, reference
from hardening.settings import source as sources
from hardening.settings.redis_urls import redis_url
from hardening.settings.urls import InvalidUrlError, database_target, shown_url
from hardening.settings.values import pairs, split

if TYPE_CHECKING:
    from pathlib import Path

PUBLIC = "https://mcp.example.com"
STATE_KEY = "s" * 32
KEYS = {"MCP_AUTH": "api_key", "MCP_API_KEYS": f"alice:{KEY},bob:{'b' * 32}"}
TOKENS = {"MCP_AUTH": "jwt", "MCP_JWT_ISSUER": "https://login.example.com", "MCP_PUBLIC_URL": PUBLIC}
TENANTS = "write name=tenant with names of MCP_API_KEYS, e.g. alice=acme,bob=acme"
HTTPS = "must be an https URL without a user or password, e.g. https://login.example.com; http is for this machine only"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's environment is a setting."""
    for name in list(os.environ):
        if name.startswith("MCP_") or name in {"HOST", "PORT", "DATABASE_URL", "REDIS_URL"}:
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (KEYS, []),
        (TOKENS, []),
        (
            {},
            [("auth", "choose how callers authenticate: api_key, jwt, api_key,jwt, or none (loopback only)")],
        ),
        ({"MCP_AUTH": "none"}, []),
        ({"MCP_AUTH": "none", "HOST": "localhost"}, []),
        ({"MCP_AUTH": "none", "MCP_HOST": "::1"}, []),
        (KEYS | {"MCP_AUTH": "none,api_key"}, [("auth", "none cannot be combined with another mode")]),
        (
            {"MCP_AUTH": "none", "HOST": "0.0.0.0", "MCP_PUBLIC_URL": PUBLIC},
            [("auth", "none is accepted on a loopback HOST only; choose api_key or jwt")],
        ),
        ({"MCP_AUTH": "api_key"}, [("api_keys", "api_key needs at least one key: name:secret, 32 characters or more")]),
        (
            {"MCP_AUTH": "jwt"},
            [
                ("jwt_issuer", "jwt needs the issuer, e.g. https://login.example.com"),
                ("jwt_audience", "jwt needs an audience, or MCP_PUBLIC_URL to derive it from"),
            ],
        ),
        (TOKENS | {"MCP_PUBLIC_URL": "", "MCP_JWT_AUDIENCE": "a"}, []),
        (TOKENS | {"MCP_PUBLIC_URL": "", "MCP_JWT_CLIENT_IDS": "a"}, []),
        (TOKENS | {"MCP_JWT_ISSUER": "http://login.example.com"}, [("jwt_issuer", HTTPS)]),
        (TOKENS | {"MCP_JWT_ISSUER": "http://localhost:9"}, []),
        (TOKENS | {"MCP_JWT_JWKS_URL": "http://keys.example.com"}, [("jwt_jwks_url", HTTPS)]),
        (KEYS | {"MCP_JWT_ISSUER": "http://a.example.com", "MCP_JWT_JWKS_URL": "http://b.example.com"}, []),
        (
            KEYS | {"HOST": "0.0.0.0"},
            [("public_url", "set the URL clients use, e.g. https://mcp.example.com, or every Host is refused")],
        ),
        (KEYS | {"HOST": "0.0.0.0", "MCP_ALLOWED_HOSTS": "mcp.example.com"}, []),
        (KEYS | {"HOST": "0.0.0.0", "MCP_PUBLIC_URL": PUBLIC}, []),
        (KEYS | {"MCP_PUBLIC_URL": f"{PUBLIC}:8443/"}, []),
        *(
            (
                KEYS | {"MCP_PUBLIC_URL": url},
                [("public_url", "must be scheme and host, without /mcp or another path, e.g. " + PUBLIC)],
            )
            for url in ("mcp.example.com", f"{PUBLIC}/mcp", f"{PUBLIC}/team/mcp", f"{PUBLIC}?a=b", f"{PUBLIC}:99999")
        ),
        (KEYS | {"MCP_POOL_MIN_SIZE": "10"}, []),
        (KEYS | {"MCP_POOL_MIN_SIZE": "11"}, [("pool_min_size", "must not exceed MCP_POOL_MAX_SIZE")]),
        (KEYS | {"DATABASE_URL": "postgresql://h/d", "MCP_POOL_MAX_SIZE": "100"}, []),
        (
            KEYS | {"DATABASE_URL": "postgresql://h/d", "MCP_POOL_MAX_SIZE": "101"},
            [("pool_max_size", "must not exceed MCP_MAX_IN_FLIGHT: further connections are never used")],
        ),
        (KEYS | {"MCP_POOL_MAX_SIZE": "101"}, []),
        (KEYS | {"MCP_TOOL_TIMEOUT_SECONDS": "34.9"}, []),
        (
            KEYS | {"MCP_TOOL_TIMEOUT_SECONDS": "35"},
            [("drain_timeout_seconds", "must exceed MCP_TOOL_TIMEOUT_SECONDS, or calls are cut at SIGTERM")],
        ),
        (KEYS | {"MCP_BACKGROUND_TIMEOUT_SECONDS": "34.9"}, []),
        (
            KEYS | {"MCP_BACKGROUND_TIMEOUT_SECONDS": "35"},
            [("drain_timeout_seconds", "must exceed MCP_BACKGROUND_TIMEOUT_SECONDS, or tasks are cut at SIGTERM")],
        ),
        (KEYS | {"MCP_MAX_IN_FLIGHT": "32"}, []),
        (KEYS | {"MCP_MAX_IN_FLIGHT": "31"}, [("max_in_flight_per_principal", "must not exceed MCP_MAX_IN_FLIGHT")]),
        (KEYS | {"MCP_REPLICAS": "1"}, []),
        (KEYS | {"MCP_REPLICAS": "2", "MCP_REQUEST_STATE_KEYS": STATE_KEY}, []),
        (
            KEYS | {"MCP_REPLICAS": "2"},
            [("request_state_keys", "more than one replica must share keys of 32 bytes")],
        ),
        (
            KEYS | {"MCP_REQUEST_STATE_KEYS": f"{STATE_KEY},{'s' * 31}"},
            [("request_state_keys", "use at least 32 characters for each key")],
        ),
        (KEYS | {"MCP_API_KEY_TENANTS": "alice=acme,bob=acme"}, []),
        (KEYS | {"MCP_API_KEY_TENANTS": "alice=acme,bob=acme,alice=acme"}, []),
        (
            KEYS | {"MCP_API_KEY_TENANTS": "alice=acme,alice=other"},
            [("api_key_tenants", "a key has one tenant, and one of these has several")],
        ),
        (KEYS | {"MCP_API_KEY_TENANTS": "alice=ac\u200bme"}, [("api_key_tenants", TENANTS)]),
        (KEYS | {"MCP_API_KEY_TENANTS": "carol=acme"}, [("api_key_tenants", TENANTS)]),
        (KEYS | {"MCP_API_KEY_TENANTS": "alice="}, [("api_key_tenants", TENANTS)]),
        (KEYS | {"MCP_API_KEY_TENANTS": "alice"}, [("api_key_tenants", TENANTS)]),
        (
            KEYS | {"MCP_RATE_TENANT_PER_MINUTE": "1"},
            [("rate_tenant_per_minute", "needs MCP_TENANT_CLAIM or MCP_API_KEY_TENANTS to tell tenants")],
        ),
        (KEYS | {"MCP_RATE_TENANT_PER_MINUTE": "1", "MCP_TENANT_CLAIM": "t"}, []),
        (KEYS | {"MCP_RATE_TENANT_PER_MINUTE": "1", "MCP_API_KEY_TENANTS": "alice=acme"}, []),
        (KEYS | {"MCP_HTTP_ALLOW": "billing.internal,10.0.0.0/8"}, []),
        (
            KEYS | {"MCP_HTTP_ALLOW": "a b"},
            [("http_allow", "write names and networks, e.g. billing.internal,10.20.0.0/16")],
        ),
        (KEYS | {"DATABASE_URL": "postgresql://h/d?schema=a"}, []),
        (
            KEYS | {"DATABASE_URL": "postgresql://h/d?schema=a", "MCP_DATABASE_PGBOUNCER": "true"},
            [("database_url", "search_path: PgBouncer does not hand it on; set it for the user: ALTER ROLE … SET")],
        ),
        (KEYS | {"MCP_DATABASE_PGBOUNCER": "true"}, []),
        (
            KEYS | {"MCP_REQUIRED_SCOPES": "a b"},
            [("required_scopes", "a scope has no spaces, quotes or backslashes, e.g. notes:read")],
        ),
        (
            KEYS | {"MCP_IMPLIED_SCOPES": "a"},
            [("implied_scopes", "write scope=scope, e.g. notes:admin=notes:read,notes:admin=notes:write")],
        ),
        (KEYS | {"MCP_PROBE_KEY": PROBE_KEY}, []),
        (KEYS | {"MCP_PROBE_KEY": KEY}, [("probe_key", "must differ from every key of MCP_API_KEYS")]),
        (
            KEYS | {"MCP_PROBE_KEY": "short"},
            [("probe_key", "use at least 32 characters, e.g. openssl rand -hex 32")],
        ),
    ],
)
def test_each_rule_between_settings(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], found: list[tuple[str, str]]
) -> None:
    """The field and the sentence; on the right side of a bound, nothing. `load` names the variable."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    problems = checks.problems(HardeningSettings())

    assert sorted(problems) == sorted(found)
    if not found:
        environment.load(HardeningSettings)
        return
    with pytest.raises(environment.InvalidSettingsError) as refused:
        environment.load(HardeningSettings)
    names = {"database_url": "DATABASE_URL"}
    said = sorted(f"{names.get(field, f'MCP_{field.upper()}')}: {sentence}" for field, sentence in found)
    assert refused.value.problems == said
    assert str(refused.value) == f"{len(said)} problem(s)"


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"order_id": int, "share": float, "place": str, "new": bool}, []),
        ({"order_id": bytes}, ["order_id"]),
        (
            {"not a name": int, "tool_name": int, "principal": str, "fine": int},
            ["not a name", "principal", "tool_name"],
        ),
    ],
)
def test_fields_of_log_lines(fields: dict[str, type], refused: list[str]) -> None:
    """A free name and one of four types."""

    class Settings(HardeningSettings):
        log_fields = fields

    found = [sentence for field, sentence in checks.problems(Settings()) if field == "log_fields"]
    assert sorted(found) == [f"{name}: a name that is free, with int, float, str or bool" for name in refused]


# --- From the environment ----------------------------------------------------------------------------


class Inner(BaseModel):
    """A part of somebody's settings."""

    name: str = "a"
    most: int = Field(5, le=9)


def short(value: str) -> str:
    """Refuse what is long, and say what it was."""
    if len(value) > 9:
        raise ValueError(f"is too long: {value}")
    return value


class Authors(HardeningSettings):
    """Settings of an author."""

    needed: str = Field(description="who you are")
    bare: int
    inner: Inner = Inner()
    words: Names = ()
    labels: Pairs = {}  # noqa: RUF012 - copied for each instance
    token: SecretStr | None = None
    page: SecretUrl | None = None
    brief: Annotated[str, AfterValidator(short)] = ""


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ({}, ["MCP_BARE: required, and not set", "MCP_NEEDED: required, and not set (who you are)"]),
        (
            {"MCP_NEEDED": "a", "MCP_BARE": "x"},
            ["MCP_BARE: should be a valid integer, unable to parse string as an integer"],
        ),
        (
            {"MCP_NEEDED": "a", "MCP_BARE": "1", "MCP_INNER__MOST": "10"},
            ["MCP_INNER__MOST: should be less than or equal to 9"],
        ),
        (
            {"MCP_NEEDED": "a", "MCP_BARE": "1", "MCP_BRIEF": "a=secret-word"},
            ["MCP_BRIEF: is too long: …"],
        ),
        (
            {"MCP_NEEDED": "a", "MCP_BARE": "1", "MCP_LABELS": "a"},
            ["MCP_LABELS: write name=value, separated by commas"],
        ),
        (
            {"MCP_NEEDED": "a", "MCP_BARE": "1", "MCP_PAGE": "nowhere"},
            ["MCP_PAGE: must be a URL: scheme://host/path"],
        ),
        (
            {"MCP_NEEDED": "a", "MCP_BARE": "1", "MCP_TOKEN_FILE": "/nowhere"},
            ["MCP_TOKEN_FILE: the file cannot be read, or is empty"],
        ),
        (
            {"MCP_NEEDED": "a", "MCP_BARE": "1", "MCP_TOKEN_FILE": "/nowhere", "MCP_TOKEN": "a"},
            ["MCP_TOKEN_FILE: set this or MCP_TOKEN, not both"],
        ),
        (
            {"MCP_NEEDED": "a", "MCP_BARE": "1", "MCP_API_KEY_FILE": "/nowhere"},
            ["MCP_API_KEY_FILE: the file cannot be read, or is empty"],
        ),
        (
            {"MCP_NEEDED": "a", "MCP_BARE": "1", "MCP_PORT": "70000", "MCP_POOL_MIN_SIZE": "11"},
            ["MCP_POOL_MIN_SIZE: must not exceed MCP_POOL_MAX_SIZE", "MCP_PORT: should be less than or equal to 65535"],
        ),
        (
            {"MCP_NEEDED": "a", "MCP_BARE": "1", "MCP_POOL_MAX_SIZE": "0", "MCP_POOL_MIN_SIZE": "11"},
            [
                "MCP_POOL_MAX_SIZE: should be greater than or equal to 1",
                "MCP_POOL_MIN_SIZE: must not exceed MCP_POOL_MAX_SIZE",
            ],
        ),
    ],
)
def test_each_mistake_has_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], problems: list[str]
) -> None:
    """All of them at once, those of an author too, and nothing that was set."""
    for name, value in ({"MCP_AUTH": "none"} | given).items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with pytest.raises(environment.InvalidSettingsError) as refused:
        environment.load(Authors)

    assert refused.value.problems == problems
    assert dict(os.environ) == before


def test_what_a_validator_raises_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another exception than the one that pydantic knows."""

    def crash(_: str) -> str:
        raise KeyError("secret")

    class Settings(HardeningSettings):
        odd: Annotated[str, AfterValidator(crash)] = ""

    monkeypatch.setenv("MCP_AUTH", "none")
    monkeypatch.setenv("MCP_ODD", "x")
    with pytest.raises(environment.InvalidSettingsError) as refused:
        environment.load(Settings)

    assert refused.value.problems == ["Settings: a validator of yours raised KeyError; raise ValueError"]


@pytest.mark.parametrize(
    ("given", "sentences"),
    [
        ({"MCP_LOG_LEVLE": "x"}, ["MCP_LOG_LEVLE: no such setting; did you mean MCP_LOG_LEVEL?"]),
        ({"mcp_zzz": "x", "MCP_ZZZ": "x"}, ["MCP_ZZZ: no such setting", "mcp_zzz: no such setting"]),
        ({"MCP_API_KEYS_FILE": "x", "MCP_PROBE_KEY_FILE": "x", "MCP_INNER__MOST": "1", "mcp_port": "1"}, []),
        ({"MCP_PORT_FILE": "x"}, ["MCP_PORT_FILE: no such setting; did you mean MCP_PAGE_FILE?"]),
        (dict.fromkeys(environment.NOT_SETTINGS, "x"), []),
        ({"OTHER": "x", "HOST": "x", "XMCP_A": "x"}, []),
    ],
)
def test_names_that_mean_nothing(given: dict[str, str], sentences: list[str]) -> None:
    """Each with the nearest name that does, if one is near; case does not matter."""
    assert environment.unknown_names(Authors, given) == sentences


def test_a_start_that_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """78, a line that counts, one line for each problem; a name that means nothing is a warning."""
    monkeypatch.setenv("MCP_LOG_LEVLE", "debug")
    with pytest.raises(SystemExit) as ended:
        environment.settings_or_exit(HardeningSettings)

    assert ended.value.code == 78
    assert capsys.readouterr().err == (
        "warning: MCP_LOG_LEVLE: no such setting; did you mean MCP_LOG_LEVEL?\n"
        "Cannot start: 1 problem(s) in the settings.\n"
        "  MCP_AUTH: choose how callers authenticate: api_key, jwt, api_key,jwt, or none (loopback only)\n"
    )
    with pytest.raises(SystemExit) as ended:
        environment.refuse("tools", ["a", "b"], 75)
    assert ended.value.code == 75
    assert capsys.readouterr().err == "Cannot start: 2 problem(s) in the tools.\n  a\n  b\n"


@pytest.mark.parametrize(
    ("sentence", "given", "shown"),
    [
        ("abcd is not efgh", ["abcd"], "… is not efgh"),
        ("abc is short", ["abc"], "abc is short"),
        ("at host.example", ["user:word@host.example/path"], "at …"),
        ("ab,cdef", ["ab,cdef"], "…"),
        ("cdef alone", ["ab,cdef"], "… alone"),
        ("nothing", [""], "nothing"),
    ],
)
def test_what_was_set_is_taken_out_of_a_sentence(sentence: str, given: list[str], shown: str) -> None:
    """Whole, and in parts of four characters or more."""
    assert environment._without_value(sentence, given) == shown  # noqa: SLF001 - each case as a whole start is slow


@pytest.mark.parametrize(
    ("text", "content"),
    [(b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b" a ", " a "), (b"", ""), (b"\xff", ""), (b"a\r", "a")],
)
def test_a_secret_in_a_file(tmp_path: Path, text: bytes, content: str) -> None:
    """Without the line end that an editor adds."""
    (tmp_path / "secret").write_bytes(text)

    assert sources.read_secret(str(tmp_path / "secret")) == content


def test_a_secret_in_a_file_is_bounded(tmp_path: Path) -> None:
    """1 MiB, and nothing for what is not there."""
    (tmp_path / "secret").write_bytes(b"a" * 1_048_577)

    assert len(sources.read_secret(str(tmp_path / "secret"))) == 1_048_576
    assert sources.read_secret(str(tmp_path / "missing")) == ""


class Shapes(HardeningSettings):
    """One of each shape that a variable may have."""

    items: list[str] = []  # noqa: RUF012 - copied for each instance
    numbers: tuple[int, ...] = ()
    unique: set[str] = set()  # noqa: RUF012 - copied for each instance
    maybe: list[str] | None = None
    mapping: dict[str, str] = {}  # noqa: RUF012 - copied for each instance
    either: dict[str, str] | None = None
    model: Inner = Inner()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("items", "a, b,,c", ["a", "b", "c"]),
        ("items", '["a,b"]', ["a,b"]),
        ("numbers", "1,2", (1, 2)),
        ("numbers", "7", (7,)),
        ("unique", "a,a", {"a"}),
        ("maybe", "a,b", ["a", "b"]),
        ("mapping", "a=1, b = 2=3", {"a": "1", "b": "2=3"}),
        ("mapping", '{"a": "1"}', {"a": "1"}),
        ("either", "a=1", {"a": "1"}),
        ("model", '{"name": "x"}', Inner(name="x")),
    ],
)
def test_each_shape_is_read_as_people_write_it(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    """With commas, or as JSON."""
    monkeypatch.setenv(f"MCP_{name.upper()}", text)

    assert getattr(Shapes(), name) == value


@pytest.mark.parametrize("name", ["numbers", "mapping", "model"])
def test_what_has_no_shape_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Neither JSON nor what people write."""
    monkeypatch.setenv(f"MCP_{name.upper()}", "x")
    monkeypatch.setenv("MCP_AUTH", "none")
    with pytest.raises(environment.InvalidSettingsError) as refused:
        environment.load(Shapes)

    assert [one.partition(":")[0].partition("__")[0] for one in refused.value.problems] == [f"MCP_{name.upper()}"]


def test_names_of_variables() -> None:
    """The usual one first; the platform's where there is one."""
    names = {
        field: sources.variables(HardeningSettings, field) for field in ("api_keys", "host", "database_url", "auth")
    }

    assert names == {
        "api_keys": ("MCP_API_KEYS", "MCP_API_KEY"),
        "host": ("MCP_HOST", "HOST"),
        "database_url": ("DATABASE_URL",),
        "auth": ("MCP_AUTH",),
    }
    assert sources.variables(HardeningSettings, "unknown") == ("MCP_UNKNOWN",)
    assert [name for name, info in Authors.model_fields.items() if sources.is_secret(info)] == [
        *("api_keys", "probe_key", "database_url", "redis_url", "request_state_keys", "token", "page"),
    ]


# --- Values ------------------------------------------------------------------------------------------


def test_lists_and_pairs() -> None:
    """Blanks around a part are no part of it; what is no text is left alone."""
    assert (split(" a ,, b c "), split(("a",)), split("")) == (("a", "b c"), ("a",), ())
    assert (pairs("a=1,, b = =2 "), pairs({"a": 1}), pairs("")) == ({"a": "1", "b": "=2"}, {"a": 1}, {})
    assert pairs("a=1,a = 1") == {"a": "1"}
    with pytest.raises(InvalidUrlError, match="write each name once"):
        pairs("a=1,b=2,a=3")
    for text in ("a", "=1", " =1", "a=1,b"):
        with pytest.raises(InvalidUrlError, match="write name=value, separated by commas"):
            pairs(text)


@pytest.mark.parametrize(
    ("entries", "names", "found"),
    [
        (["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"], set(), ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]),
        (["Billing.Internal.", "a-b_c", "7seas.example"], {"billing.internal", "a-b_c", "7seas.example"}, []),
    ],
)
def test_what_the_inside_is(entries: list[str], names: set[str], found: list[str]) -> None:
    """Names in lower case, addresses, networks."""
    assert networks.parse_allowed(entries) == (names, tuple(map(networks.ipaddress.ip_network, found)))


@pytest.mark.parametrize("entry", ["", "a b", "10.0.0.1/8", "300.1.1.1", "a..b", "*.internal", "http://a", "a.7"])
def test_what_is_no_name_and_no_network(entry: str) -> None:
    """Refused with an example, and without what was written."""
    with pytest.raises(ValueError, match=r"^write names and networks, e\.g\. billing\.internal,10\.20\.0\.0/16$"):
        networks.parse_allowed([entry])


@pytest.mark.parametrize(
    ("text", "good"), [("https://h/p", True), ("https://", False), ("://h", False), ("h", False), ("https:///", False)]
)
def test_a_secret_url(monkeypatch: pytest.MonkeyPatch, text: str, good: bool) -> None:  # noqa: FBT001 - a column
    """Has a scheme and a place."""

    class Settings(HardeningSettings):
        page: SecretUrl | None = None

    monkeypatch.setenv("MCP_PAGE", text)
    monkeypatch.setenv("MCP_AUTH", "none")
    if good:
        assert environment.load(Settings).page == SecretStr(text)
    else:
        with pytest.raises(environment.InvalidSettingsError):
            environment.load(Settings)


ENCODE = "percent-encode what is special in user and password: @ is %40, / is %2F, # is %23, ? is %3F, % is %25"
START = "must start with postgresql:// or postgres://, e.g. postgresql://user:password@host/name"
REDIS_START = "must start with redis://, rediss:// or unix://, e.g. rediss://host:6379/0"
PORT = "the port must be 1 to 65535"
SSLMODE = "sslmode: must be disable, require, verify-ca or verify-full"
NOT_KNOWN = "not known; leave it out, or set it for the user: ALTER ROLE … SET"


@pytest.mark.parametrize(
    ("query", "dsn", "more"),
    [
        ("", "", {}),
        ("?pgbouncer=1", "", {"pooled": True}),
        ("?pgbouncer=yes", "", {"pooled": True}),
        ("?sslmode=REQUIRE&ssl_min_protocol_version=TLSv1.3", "?sslmode=require&ssl_min_protocol_version=TLSv1.3", {}),
        ("?target_session_attrs=Standby&port=1,2", "?target_session_attrs=standby&port=1%2C2", {}),
        ("?PgBouncer=ON", "", {"pooled": True}),
        ("?pgbouncer=false", "", {}),
        ("?ssl=true", "?sslmode=require", {}),
        ("?ssl=1", "?sslmode=require", {}),
        ("?ssl=false", "?sslmode=disable", {}),
        ("?ssl=0", "?sslmode=disable", {}),
        ("?ssl=verify-ca", "?sslmode=verify-ca", {}),
        *((f"?sslmode={mode}", f"?sslmode={mode}", {}) for mode in ("allow", "prefer", "verify-ca", "verify-full")),
        ("?channel_binding=prefer&sslmode=require", "?sslmode=require", {}),
        ("?channel_binding=require", "", {"system_roots": True}),
        (
            "?channel_binding=require&sslmode=require&sslrootcert=/ca",
            "?sslmode=verify-full&sslrootcert=%2Fca",
            {},
        ),
        ("?sslrootcert=system&user=u", "?user=u", {"system_roots": True}),
        ("?currentSchema=a", "", {"session": {"search_path": "a"}}),
        ("?Role=a&application_name=", "", {"session": {"role": "a", "application_name": ""}}),
        ("?pgbouncer=true&application_name=a", "", {"pooled": True, "session": {"application_name": "a"}}),
    ],
)
def test_the_parameters_of_a_database_url(query: str, dsn: str, more: dict[str, Any]) -> None:
    """Each goes to the driver, into the session, or nowhere."""
    target = database_target(f"postgres://u:p@h:1/db{query}")
    usual: dict[str, Any] = {"system_roots": False, "pooled": False, "session": {}}

    assert target.dsn == f"postgres://u:p@h:1/db{dsn}"
    assert {name: getattr(target, name) for name in usual} == usual | more


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql:/h/db", START),
        ("h/db", START),
        ("postgresql://h/db?sslmode=", SSLMODE),
        ("postgresql://h/db?ssl=x", SSLMODE),
        ("postgresql://h/db?surprise=1", f"surprise: {NOT_KNOWN}"),
        ("postgresql://h/db?max_pool_size=1", "max_pool_size: set MCP_POOL_MAX_SIZE instead"),
        ("postgresql://h/db?Min_Pool_Size=1", "Min_Pool_Size: set MCP_POOL_MIN_SIZE instead"),
        ("postgresql://h/db?hostaddr=1", "hostaddr: write the address as the host"),
        ("postgresql://h/db?service=1", "service: write host, port and name into the URL"),
        ("postgresql://[h/db", ENCODE),
        ("postgresql://u:p@h:x/db", ENCODE),
        ("postgresql://u:p@h:1,i:x/db", ENCODE),
        ("postgresql://u:p/w@h/db", ENCODE),
        ("postgresql://h/db#x", ENCODE),
        ("postgresql://h/db?user=a@b", ENCODE),
        ("postgresql://h/d b", ENCODE),
        ("postgresql://u:p@w@h/db", ENCODE),
        ("postgresql://h,/db", "a host is missing beside a comma"),
        ("postgresql://h:0/db", PORT),
        ("postgresql://h:65536/db", PORT),
        ("postgresql://::1/db", f"write an IPv6 address in brackets, e.g. [::1]; else {ENCODE}"),
        ("postgresql://h/db?port=x", "port: must be a number"),
        ("postgresql://h/db?ssl_min_protocol_version=1.2", "ssl_min_protocol_version: must be TLSv1.2 or TLSv1.3"),
        ("postgresql://h/db?ssl_max_protocol_version=1.2", "ssl_max_protocol_version: must be TLSv1.2 or TLSv1.3"),
        (
            "postgresql://h/db?target_session_attrs=x",
            "target_session_attrs: must be one of any, prefer-standby, primary, read-only, read-write, standby",
        ),
        ("postgresql://h/db?surprise=", ENCODE),
    ],
)
def test_a_database_url_is_refused(url: str, sentence: str) -> None:
    """With one sentence, which holds nothing of it but the name of a parameter."""
    with pytest.raises(InvalidUrlError) as refused:
        database_target(url)

    assert str(refused.value) == sentence


def test_pgbouncer_may_be_said_by_the_setting() -> None:
    """What it does not hand on is refused by its name, the first of them."""
    for pooled in (False, True):
        url = "postgresql://h/db?timezone=UTC&role=a" + ("&pgbouncer=true" if pooled else "")
        with pytest.raises(InvalidUrlError, match=r"^role: PgBouncer does not hand it on"):
            database_target(url, pgbouncer=not pooled)
    assert database_target("postgresql://u:p@[::1]:5/d").dsn == "postgresql://u:p@[::1]:5/d"
    assert database_target("postgresql://u:p@[::1]/d?user=a@b").dsn == "postgresql://u:p@[::1]/d?user=a%40b"


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("valkey://h", "redis://h"),
        ("valkeys://h/3", "rediss://h/3"),
        ("redis://h/", "redis://h/"),
        (" 'REDIS://h:65535/0' ", "redis://h:65535/0"),
        ("redis://h?socket_timeout=1.5&protocol=3", "redis://h?socket_timeout=1.5&protocol=3"),
        ("rediss://h?ssl_min_version=TLSv1_3", "rediss://h?ssl_min_version=772"),
        ("rediss://h?ssl_min_version=1.2", "rediss://h?ssl_min_version=771"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis://h?family=0", "redis://h"),
        ("redis://h?family=0&db=2", "redis://h?db=2"),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", "rediss://h?ssl_cert_reqs=none"),
        ("rediss://h?ssl_cert_reqs=optional&a", None),
        ("rediss://h?ssl_cert_reqs=required", "rediss://h?ssl_cert_reqs=required"),
    ],
)
def test_a_redis_url_is_read(url: str, read: str | None) -> None:
    """As the client reads it."""
    if read is None:
        with pytest.raises(InvalidUrlError, match=r"^a: not known; leave it out$"):
            redis_url(url)
    else:
        assert redis_url(url) == read


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis+sentinel://h", "Sentinel is not supported; write the address that always leads to the primary"),
        ("http://h", REDIS_START),
        ("redis:h", REDIS_START),
        ("redis://h/a", "what follows the address must be the number of a database, e.g. /0"),
        ("redis://h?ssl=true", "ssl: write rediss:// instead, and leave it out"),
        ("redis://h?tls=true", "tls: write rediss:// instead, and leave it out"),
        ("redis://h?db=x", "db: must be a number"),
        ("rediss://h?ssl_cert_reqs=x", "ssl_cert_reqs: must be none, optional or required"),
        ("redis:///0", ENCODE),
        ("redis://:p#w@h", ENCODE),
        ("redis-cluster://h", "write redis:// or rediss:// and the address of one node: it names the others"),
        ("redis://h,i", "write one address; of a cluster one node, which names the others"),
        ("redis://h?protocol=4", "protocol: must be 2 or 3"),
        ("redis://h?db=1.5", "db: must be a number"),
        ("redis://h?socket_timeout=1.5.2", "socket_timeout: must be a number"),
        ("redis://h?ssl_min_version=1.2", "ssl_min_version: write rediss:// for TLS, or leave it out"),
        ("redis://h?ssl_ca_certs=/a", "ssl_ca_certs: write rediss:// for TLS, or leave it out"),
        ("rediss://h?ssl_min_version=1.1", "ssl_min_version: must be 1.2 or 1.3"),
        ("redis://h:65536", PORT),
    ],
)
def test_a_redis_url_is_refused(url: str, sentence: str) -> None:
    """With one sentence."""
    with pytest.raises(InvalidUrlError) as refused:
        redis_url(url)

    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h/p?a=b#c", "https://h/p?********"),
        ("https://h/p#c", "https://h/p"),
        ("https://h/p?", "https://h/p?********"),
        ("https://u:p@x@h/p", "https://h/p"),
        ("plain text", "plain text"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    """Where it leads, and that there is more."""
    assert shown_url(url) == shown


# --- What is shown -----------------------------------------------------------------------------------


class Colour(Enum):
    """One of a few."""

    RED = "red"


class Hidden:
    """A type that nobody knows here."""

    def __str__(self) -> str:
        """Say what it holds."""
        return "secret"


class Everything(HardeningSettings, arbitrary_types_allowed=True):
    """A setting of each type."""

    model: Inner = Inner()
    password_of: str = "plain"  # noqa: S105 - of nothing
    own_password: str = ""
    raw: SecretBytes = SecretBytes(b"x")
    none: str | None = None
    flag: bool = True
    share: float = 0.50
    money: Decimal = Decimal("1.50")
    span: timedelta = timedelta(seconds=5)
    path: PurePosixPath = PurePosixPath("/a")
    colour: Colour = Colour.RED
    page: HttpUrl = HttpUrl("https://u:p@example.com/x?y=z")
    text: str = "https://u:p@example.com/x"
    unique: frozenset[str] = frozenset({"b", "a"})
    ordered: tuple[str, ...] = ("b", "a")
    odd: Hidden = Hidden()
    shown: Annotated[Hidden, Field(json_schema_extra={"shown": True})] = Hidden()
    at_least: int = Field(1, ge=0)
    between: int = Field(1, ge=0, le=5)
    required: int


def test_each_type_is_shown_or_masked() -> None:
    """What may hold a secret is masked, what cannot is as it was set."""
    found = {row.variable: row for row in reference.rows(Everything)}
    shown = {name.removeprefix("MCP_").lower(): row.value for name, row in found.items()}
    names = [name for name in Everything.model_fields if name not in HardeningSettings.model_fields]

    assert {name: shown[name] for name in names} == {
        "model": "name=a most=5",
        "password_of": "********",
        "own_password": "",
        "raw": "********",
        "none": "",
        "flag": "true",
        "share": "0.5",
        "money": "1.50",
        "span": "0:00:05",
        "path": "/a",
        "colour": "red",
        "page": "https://example.com/x?********",
        "text": "https://example.com/x",
        "unique": "a,b",
        "ordered": "b,a",
        "odd": "********",
        "shown": "secret",
        "at_least": "1",
        "between": "1",
        "required": "",
    }
    assert {name: row.bounds for name, row in found.items() if name in {"MCP_AT_LEAST", "MCP_BETWEEN"}} == {
        "MCP_AT_LEAST": "",
        "MCP_BETWEEN": "0 to 5",
    }
    assert (found["MCP_REQUIRED"].default, found["MCP_FLAG"].default) == ("required", "true")


def test_what_is_secret_is_found_wherever_it_is() -> None:
    """In models, mappings and lists."""

    class Holder(BaseModel):
        one: SecretStr = SecretStr("a")
        many: tuple[SecretStr, ...] = (SecretStr("b"),)
        some: dict[str, SecretStr] = {"k": SecretStr("c")}
        other: frozenset[SecretStr] = frozenset({SecretStr("d")})
        items: list[SecretStr] = [SecretStr("e")]
        plain: str = "f"

    assert sorted(reference.secrets_of(Holder())) == ["a", "b", "c", "d", "e"]


def test_settings_are_shown_with_where_they_come_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each; what is wrong ends with 78 and is told, line by line."""
    (tmp_path / "keys").write_text(f"alice:{KEY}\n")
    for name, value in {"MCP_AUTH": "api_key", "MCP_API_KEY_FILE": str(tmp_path / "keys"), "PORT": "9"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MCP_LOG_LEVLE", "x")

    assert reference.main([], HardeningSettings) == 0
    out, err = capsys.readouterr()
    assert "MCP_API_KEYS=********  # MCP_API_KEY_FILE\n" in out
    assert "MCP_PORT=9  # PORT\n" in out
    assert "MCP_HOST=127.0.0.1  # default\n" in out
    assert err == "warning: MCP_LOG_LEVLE: no such setting; did you mean MCP_LOG_LEVEL?\n"
    assert reference.effective(HardeningSettings()) == {
        "MCP_AUTH": "api_key",
        "MCP_API_KEYS": "********",
        "MCP_PORT": "9",
    }
    monkeypatch.setenv("MCP_POOL_MIN_SIZE", "11")
    monkeypatch.setenv("PORT", "-1")
    assert reference.main([], HardeningSettings) == 78
    assert capsys.readouterr().err.splitlines()[1:] == [
        "MCP_POOL_MIN_SIZE: must not exceed MCP_POOL_MAX_SIZE",
        "MCP_PORT: should be greater than or equal to 0",
    ]


def test_the_two_files_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Each by its option, not both."""
    assert reference.main(["--env-file"], HardeningSettings) == 0
    example = capsys.readouterr().out
    assert reference.main(["--markdown"], HardeningSettings) == 0
    page = capsys.readouterr().out

    assert example == reference.as_env_file(HardeningSettings)
    assert page == reference.as_markdown(HardeningSettings)
    assert "\n# Port to bind; 0 lets the system choose. (0 to 65535)\n#MCP_PORT=8000\n" in example
    assert "\n# Connections kept open. (0 to 1000)\n#MCP_POOL_MIN_SIZE=2\n" in example
    assert "| `MCP_POOL_MIN_SIZE` | `2` | 0 to 1000 | Connections kept open. |\n" in page
    assert "| `MCP_JWT_ISSUER` |  |  | Issuer (`iss`) whose tokens are accepted. |\n" in page
    with pytest.raises(SystemExit):
        reference.main(["--env-file", "--markdown"], HardeningSettings)
