"""The order of the guards: every request passes them from top to bottom, and the first answer ends it.

One reason a line; `README.md` beside this file has a row for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import App
    from .exchange import Guard


def guards_of(app: App) -> tuple[tuple[str, Guard], ...]:
    """Return the guards by the name that logs and metrics give them (`layer`)."""
    return (
        # What has two meanings is read by nobody below.
        ("header_fields", app.header_fields),
        # A foreign page must learn nothing, not even that authentication is missing.
        ("host", app.host_origin),
        # The platform has no credential, and its requests are no load.
        ("health", app.health),
        # Reads the head only, and keeps what is not a request away from everything below.
        ("declared", app.request_head),
        # A replica that is leaving takes no new work.
        ("drain", app.drain),
        # Everything below counts by it.
        ("address", app.client_ip),
        # A flood is refused before it costs a signature check.
        ("address_rate", app.limits.address),
        # Every guard below runs for authenticated callers only.
        ("authentication", app.authentication),
        # One caller cannot take what others need.
        ("principal_rate", app.limits.principal),
        ("in_flight", app.in_flight),
        # Only now is anything read, held or waited for.
        ("body", app.body),
        ("envelope", app.message),
        # What the message asks for decides what the credential must allow.
        ("authorization", app.authorization),
        # What is allowed is counted, everything that one request needs at once.
        ("rate", app.limits.message),
        ("streams", app.open_streams),
        ("sessions", app.sessions),
        # Not of the protocol, and behind everything that protects it.
        ("metrics", app.metrics_endpoint),
    )
