"""One TLS context for all connections to Redis: to make one reads the authorities of the machine, some 30 ms each.

Files of certificates that were replaced are read again after a failure of TLS, without a restart.
"""

from __future__ import annotations

import ssl
from typing import Any

from redis.asyncio import BlockingConnectionPool

from ..logs.origin import system_error


class SharedTlsPool(BlockingConnectionPool):
    """Connections to one Redis, with TLS or without."""

    tls: Any = None

    def make_connection(self) -> Any:
        """Return a connection that is not open yet."""
        connection: Any = super().make_connection()
        if hasattr(connection, "ssl_context"):
            self.tls = connection.ssl_context = self.tls or connection.ssl_context
        return connection

    def failed(self, error: BaseException) -> None:
        """Read the files of certificates again for the next connection when TLS has failed: they may be others now."""
        if isinstance(system_error(error), ssl.SSLError) and self.tls is not None:
            self.tls.context = None
