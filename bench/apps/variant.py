"""The render with some of its protections taken out; only here, there is no setting for it.

    variant.py PACKAGE off[,…]     run with the project's own interpreter

`off` is the name of a guard of the stack, or `all`: every guard but the two that read the message,
the limits of tools, and the deadline of calls.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

# Without these there is no message to answer: they are part of serving.
READING = frozenset({"body", "envelope"})


def main(package: str, off: frozenset[str]) -> int:
    """Take the guards out of the stack when it is built, and serve."""
    app = import_module(f"{package}.hardening.app")
    build = app.App.__init__

    def without(self: Any, server: Any) -> None:
        build(self, server)
        everything = "all" in off
        kept = [(name, guard) for name, guard in self.pipeline.guards if not _out(name, off)]
        self.pipeline.guards = tuple(kept)
        if everything or "rate" in off:
            server.limits.tool = _allowed
        if everything or "deadline" in off:
            server.deadlines.run = _at_once

    app.App.__init__ = without
    return import_module(f"{package}.__main__").main(["serve"])


async def _allowed(*_: Any) -> Any:
    return import_module(f"{sys.argv[1]}.hardening.limits.model").ALLOWED


async def _at_once(_name: str, _seconds: float, work: Any) -> Any:
    return await work


def _out(name: str, off: frozenset[str]) -> bool:
    return name in off or ("all" in off and name not in READING)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], frozenset(sys.argv[2].split(","))))
