"""Settings of the shop."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field, SecretStr

from .hardening import HardeningSettings
from .hardening.settings import DatabaseUrl, Names, Pairs, SecretUrl


class Rates(BaseModel):
    """The system that knows exchange rates: MCP_RATES__URL, MCP_RATES__TOKEN."""

    url: str = Field(default="https://rates.example.com", description="Address without the path.")
    token: SecretStr = Field(default=SecretStr(""), description="Credential of this server there.")


class Settings(HardeningSettings):
    """Everything that can be set."""

    log_fields: ClassVar[dict[str, type]] = {"order_id": int, "rows": int}

    database_url: DatabaseUrl = Field(  # pyright: ignore[reportIncompatibleVariableOverride] - narrower: required
        validation_alias="DATABASE_URL", description="PostgreSQL, e.g. postgresql://user:password@db/name."
    )
    rates: Rates = Field(default=Rates(), description="Where exchange rates come from.")
    currencies: Names = Field(default=("EUR", "USD"), description="Currencies that may be asked for.")
    labels: Pairs = Field(default={}, description="Names of topics for people, e.g. billing=Money.")
    webhook_url: SecretUrl | None = Field(default=None, description="Who is told of orders; the path is a secret.")
