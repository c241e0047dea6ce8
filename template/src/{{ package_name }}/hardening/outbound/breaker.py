"""Circuit breaker for each host: after five failures in a row it is left alone for 30 s (`upstream_unavailable`).

Then one request tries it; the others are refused until that one has succeeded.
Failures that only one caller has seen hold for that caller only: it may have chosen a path that fails on a sound host.
At most 1000 hosts are remembered, the last used ones.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ..errors import UpstreamUnavailable
from ..logs.origin import system_error, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger()

FAILURES = 5
OPEN_SECONDS = 30.0
MOST_HOSTS = 1000


@dataclass(slots=True)
class _Circuit:
    caller: str
    shared: bool = False
    failures: int = 0
    closed_at: float = 0.0


class Breaker:
    """Remembers which hosts fail.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._circuits: OrderedDict[str, _Circuit] = OrderedDict()

    def check(self, host: str, caller: str = "") -> None:
        """Let a request of a caller through, or refuse it.

        Raises:
            UpstreamUnavailable: The host has failed lately; says when to try again.
        """
        circuit = self._circuits.get(host)
        if circuit is None or circuit.failures < FAILURES or not (circuit.shared or circuit.caller == caller):
            return
        now = self._clock()
        if now < circuit.closed_at:
            raise UpstreamUnavailable(retry_after_seconds=circuit.closed_at - now)
        # This request is the one that tries; should it be cancelled, the next one comes later.
        circuit.closed_at = now + OPEN_SECONDS

    def succeeded(self, host: str) -> None:
        """Note that a host has answered."""
        self._circuits.pop(host, None)

    def failed(self, host: str, caller: str = "", error: BaseException | None = None) -> None:
        """Note that a host has not answered, or has said that it cannot.

        Once it is left alone, a line says why, such as a certificate that has expired. It does not name the host, which
        may be an argument of the call: the metrics do.
        """
        circuit = self._circuits.setdefault(host, _Circuit(caller))
        self._circuits.move_to_end(host)
        circuit.shared = circuit.shared or circuit.caller != caller
        circuit.failures += 1
        if circuit.failures >= FAILURES:
            circuit.closed_at = self._clock() + OPEN_SECONDS
        while len(self._circuits) > MOST_HOSTS:
            self._circuits.popitem(last=False)
        if circuit.failures == FAILURES:
            log.warning("host left alone", error_type=error and type_name(system_error(error)))
