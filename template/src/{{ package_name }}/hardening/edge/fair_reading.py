"""Fair reading: after a long segment of one connection, every other one has its turn before more of it is read.

Whoever sends as fast as it can takes no more of the event loop than its share; nobody is refused here.
"""

from __future__ import annotations

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# The event loop reads 256 kB at once, and up to 32 times one after the other when there is more.
LONG_SEGMENT_BYTES = 131_072


class FairReading(HttpToolsProtocol):
    """Uvicorn's connection, of which one long segment is read in each turn of the event loop."""

    def data_received(self, data: bytes) -> None:
        """Read one segment; a long one is the last for this turn."""
        super().data_received(data)
        if len(data) >= LONG_SEGMENT_BYTES and not self.flow.read_paused:
            self.flow.pause_reading()
            self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        # Where requests wait for their answers, or a body to be taken, uvicorn reads on when they do no more.
        if not self.pipeline and (not self.cycle or len(self.cycle.body) <= HIGH_WATER_LIMIT):
            self.flow.resume_reading()
