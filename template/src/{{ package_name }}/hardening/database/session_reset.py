"""Session state of a connection ends with the call: role, settings, locks, temporary tables, sequences, channels.

The next call finds the connection as it was opened, whatever a tool has set for the session.
`RESET ALL`, which the driver sends, leaves out the role and what is temporary.
Behind PgBouncer the next statement may meet another server connection: there it ends in the transaction itself.
Sources: PostgreSQL, DISCARD and SET ROLE; asyncpg, `Connection.get_reset_query`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    Driver = asyncpg.Connection[asyncpg.Record]
else:
    Driver = asyncpg.Connection

# Not DISCARD ALL: prepared statements are kept, and they are the same for every caller.
RESET = "RESET SESSION AUTHORIZATION;\nRESET ROLE;\nDISCARD TEMP;\nDISCARD SEQUENCES;"


class ResetConnection(Driver):
    """A connection whose pool resets all of its session, in the one round trip that it takes anyway."""

    def get_reset_query(self) -> str:
        """Return what is sent when the connection is given back."""
        return f"{super().get_reset_query()}\n{RESET}"
