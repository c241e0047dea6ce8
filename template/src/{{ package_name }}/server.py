"""Names the server and hardens it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .hardening import HardenedServer, harden
from .tools import TOOLS

if TYPE_CHECKING:
    from .settings import Settings

# What a model should know before it uses the tools.
INSTRUCTIONS = "Use the tools when the user asks for what they do. Each says how long it may take."


def build(settings: Settings) -> HardenedServer:
    """Return the server; prompts and resources of yours are added to it here."""
    return harden(settings, tools=TOOLS, instructions=INSTRUCTIONS)
