"""Settings: every variable with its type, bounds, default and meaning.

A setting is read from the environment once, at start, and never changes afterwards.
The name in the environment is the field's name in capitals after `MCP_`
(`tool_timeout_seconds` is `MCP_TOOL_TIMEOUT_SECONDS`), except where a platform injects its own.
Defaults are safe: what is left out is refused or bounded, never open.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from ..auth.api_keys import ApiKey, parse_api_keys
from .fields import count, platform, seconds
from .source import EnvironmentSettings
from .values import AuthModes, DatabaseUrl, Names, Pairs, RedisUrl, SecretUrl, split

__all__ = ["DatabaseUrl", "HardeningSettings", "Names", "Pairs", "RedisUrl", "SecretUrl"]


class HardeningSettings(EnvironmentSettings):
    """Settings of the hardening; subclass it to add your own, required ones included."""

    # Fields of your own for log lines, by name: int, float, str or bool.
    log_fields: ClassVar[dict[str, type]] = {}

    # Who may call.
    auth: AuthModes = Field(
        default=frozenset(), description="How callers prove who they are: api_key, jwt, both, or none."
    )
    api_keys: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("MCP_API_KEYS", "MCP_API_KEY"),
        description="name:secret or name:sha256:<hex>, separated by commas; several at once so that keys rotate.",
    )
    probe_key: SecretStr | None = Field(
        default=None, description="Key of the monitor: read-only, with limits of its own."
    )
    jwt_issuer: str = Field(default="", description="Issuer (`iss`) whose tokens are accepted.")
    jwt_audience: str = Field(
        default="", description="Audience every token must carry; default: the public URL and /mcp."
    )
    jwt_client_ids: Names = Field(
        default=(),
        description="Clients whose tokens alone are accepted, and may carry no audience; for issuers that name none.",
    )
    jwt_jwks_url: str = Field(default="", description="Where the issuer's keys are; default: found by discovery.")
    max_token_bytes: int = count(8192, 1024, 49_152, "Longest token; raise it for tokens that list many groups.")
    jwt_claims: Names = Field(default=(), description="Claims of a token that tools may read, e.g. email.")
    tenant_claim: str = Field(default="", description="Claim that names the tenant; a token without it is refused.")
    api_key_tenants: Names = Field(default=(), description="Tenants of API keys, e.g. alice=acme,bob=acme.")
    required_scopes: Names = Field(default=(), description="Scopes that every token needs.")
    implied_scopes: Names = Field(default=(), description="What a scope stands for, e.g. notes:admin=notes:read.")

    # Where it listens and how it is reached.
    host: str = platform("HOST", "127.0.0.1", "Address to bind; one that is not loopback needs authentication.")
    port: int = platform("PORT", 8000, "Port to bind; 0 lets the system choose.", ge=0, le=65535)
    public_url: str = Field(default="", description="URL clients use, without /mcp; sets host, origin and resource id.")
    allowed_hosts: Names = Field(default=(), description="Further Host values to accept, e.g. an internal name.")
    allowed_origins: Names = Field(default=(), description="Further browser origins to accept.")
    trusted_proxy_hops: int = count(0, 0, 10, "Proxies in front whose X-Forwarded-For entries are true.")
    replicas: int = count(1, 1, 1000, "How many processes serve the same URL; more than one must share secrets.")

    # What it needs.
    database_url: DatabaseUrl | None = platform("DATABASE_URL", None, "PostgreSQL, e.g. postgresql://user@db/name.")
    pool_min_size: int = count(2, 0, 1000, "Connections kept open.")
    pool_max_size: int = count(10, 1, 1000, "Connections at most; see docs/operations.md for the formula.")
    pool_acquire_timeout_seconds: float = seconds(5, 0.01, 300, "Wait for a connection, then answer busy.")
    pool_idle_seconds: float = seconds(
        60, 1, 86_400, "Idle connections are closed after this; keep it below what firewalls and the database allow."
    )
    database_start_timeout_seconds: float = seconds(10, 0.1, 300, "Wait for the database at start, then exit.")
    database_pgbouncer: bool = Field(default=False, description="Set behind PgBouncer in transaction mode.")
    state_start_timeout_seconds: float = seconds(30, 0.1, 3600, "Wait for the state of yours at start, then exit.")
    redis_url: RedisUrl | None = platform("REDIS_URL", None, "Redis that replicas share limits and events through.")
    redis_timeout_seconds: float = seconds(0.1, 0.01, 5, "Wait for Redis, then count locally and tighter.")

    # What runs, and what it may reach.
    tools_allow: Names = Field(default=(), description="The only tools that are served; default: all.")
    tools_deny: Names = Field(default=(), description="Tools that are not served.")
    read_only: bool = Field(default=False, description="Serve only tools that change nothing.")
    http_allow: Names = Field(default=(), description="Names and networks on the inside that ctx.http may reach.")
    http_max_response_bytes: int = count(8_388_608, 1024, 268_435_456, "Largest answer that ctx.http takes.")

    # How often: requests and calls over a rate are refused.
    rate_address_per_minute: int = count(1200, 1, 1_000_000, "Requests of strangers from one address.")
    rate_address_burst: int = count(600, 1, 1_000_000, "Requests of strangers from one address at once.")
    rate_auth_failures_per_minute: int = count(20, 1, 1_000_000, "Failed authentications from one address.")
    rate_initialize_per_minute: int = count(240, 1, 1_000_000, "Legacy handshakes of a caller, or from one address.")
    rate_discover_per_minute: int = count(240, 1, 1_000_000, "server/discover of a caller, or from one address.")
    rate_principal_per_minute: int = count(1200, 1, 1_000_000, "Requests of one caller.")
    rate_principal_burst: int = count(600, 1, 1_000_000, "Requests of one caller at once.")
    rate_tenant_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Requests of one tenant, however many callers it has; default: no limit.",
    )
    rate_tool_per_minute: int = count(120, 1, 1_000_000, "Calls of one tool by one caller, unless the tool says.")
    rate_probe_per_minute: int = count(120, 1, 1_000_000, "Requests of the probe; others never use them up.")
    rate_max_keys: int = count(65_536, 1024, 10_000_000, "Buckets kept in memory; bounds what a flood can use.")
    budget_units: int = count(1000, 1, 1_000_000_000, "Cost units of one caller in a window.")
    budget_window_seconds: float = seconds(3600, 1, 86_400, "Length of the budget window.")

    # How big, how slow, how many at once.
    max_body_bytes: int = count(1_048_576, 1024, 67_108_864, "Largest request.")
    max_response_bytes: int = count(4_194_304, 1024, 268_435_456, "Largest answer: of a tool or anything else.")
    max_json_depth: int = count(64, 8, 128, "Deepest nesting of a request.")
    max_json_values: int = count(10_000, 1000, 1_000_000, "Values in a request: members, items, arrays and objects.")
    max_in_flight: int = count(100, 1, 100_000, "Requests being answered at once.")
    max_in_flight_per_principal: int = count(32, 1, 100_000, "Requests of one caller being answered at once.")
    max_background_tasks: int = count(100, 1, 100_000, "Tasks that run after the answers of their calls.")
    max_background_tasks_per_principal: int = count(20, 1, 100_000, "Such tasks of one caller.")
    max_threads: int = count(16, 1, 1000, "Threads for libraries that block.")
    max_threads_per_principal: int = count(8, 1, 1000, "Such threads of one caller.")
    thread_acquire_timeout_seconds: float = seconds(5, 0.01, 300, "Wait for a thread, then answer busy.")
    max_streams: int = count(200, 1, 100_000, "Open subscription streams.")
    max_streams_per_principal: int = count(10, 1, 100_000, "Open subscription streams of one caller.")
    max_connections: int = count(4096, 16, 1_000_000, "Open connections; a further one takes an idle stranger's place.")
    max_connections_per_address: int = count(
        256, 1, 1_000_000, "Open connections of one address; not counted behind trusted proxies."
    )
    max_sessions: int = count(1000, 1, 100_000, "Open sessions (legacy, stateful).")
    max_sessions_per_principal: int = count(50, 1, 100_000, "Open sessions of one caller (legacy, stateful).")
    session_idle_seconds: float = seconds(600, 1, 86_400, "Idle time after which a session ends.")
    body_timeout_seconds: float = seconds(10, 0.1, 300, "Time to send a request; slower senders get 408.")
    keep_alive_seconds: int = count(75, 1, 3600, "Idle connections stay open; keep it above the proxy's own.")
    stream_ping_seconds: int = count(15, 1, 90, "Comment on an answer that is silent for so long.")

    # How long: the grace chain, checked at start.
    tool_timeout_seconds: float = seconds(30, 0.05, 3600, "Deadline of a tool that declares none.")
    background_timeout_seconds: float | None = Field(
        default=None,
        ge=0.05,
        le=3600,
        allow_inf_nan=False,
        description="Deadline of work after the answer; default: MCP_TOOL_TIMEOUT_SECONDS.",
    )
    drain_timeout_seconds: float = seconds(35, 0.1, 3700, "Time that calls in flight get at SIGTERM.")
    readiness_delay_seconds: float = seconds(5, 0, 300, "Unready before the listener closes, for the balancer.")

    # Protocol and logs.
    legacy: Literal["stateless", "stateful", "refuse"] = Field(
        default="stateless", description="Clients before 2026-07-28."
    )
    request_state_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(split)] = Field(
        default=(),
        description="Keys that seal multi-round-trip state: the first seals, all open; several replicas need it.",
    )
    confirm: Literal["required", "when_possible"] = Field(
        default="required", description="when_possible: tools that want a yes also run where nobody can be asked."
    )
    direct_calls: bool = Field(
        default=True, description="off: calls and lists take the SDK's own, longer way; the answers are the same."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lines below it are dropped."
    )
    log_format: Literal["json", "gcp", "console"] = Field(
        default="json", description="gcp: JSON with severity and message for Cloud Logging; console: to read by eye."
    )
    monitor_client_names: Names = Field(default=("AliveMCP",), description="Client names that are marked as probe.")

    @field_validator("api_keys")
    @classmethod
    def _api_keys_parse(cls, value: SecretStr) -> SecretStr:
        parse_api_keys(value.get_secret_value())
        return value

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """The API keys as digests."""
        return parse_api_keys(self.api_keys.get_secret_value())

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
