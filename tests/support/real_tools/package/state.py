"""What all calls share: a model that takes long to load, and a small cache."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .settings import Settings

DIMENSIONS = 16
MOST_CACHED = 100


class Model:
    """Turns text into a vector; a stand-in for one that is downloaded."""

    def embed(self, text: str) -> list[float]:
        """Return a vector of length 1; blocks as such libraries do."""
        counts = Counter(zlib.crc32(word.encode()) % DIMENSIONS for word in text.lower().split())
        length = math.sqrt(sum(count**2 for count in counts.values())) or 1.0
        return [counts[place] / length for place in range(DIMENSIONS)]


@dataclass
class State:
    """What the lifespan yields."""

    model: Model
    topics: dict[str, list[float]]
    rates: dict[str, float] = field(default_factory=dict[str, float])


@asynccontextmanager
async def open_state(settings: Settings) -> AsyncGenerator[State]:
    """Load the model once, before the port opens."""
    del settings
    model = await asyncio.to_thread(Model)  # noqa: TID251 - no call runs yet
    yield State(model, {topic: model.embed(words) for topic, words in TOPICS.items()})


TOPICS = {"billing": "invoice payment refund money price", "shipping": "parcel delivery address late lost"}


async def prepare(db: Any) -> None:
    """Teach a new connection the types that it lacks."""
    await db.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    await db.set_type_codec("vector", schema="public", encoder=json.dumps, decoder=json.loads)
