"""What Alembic runs for each command: the migrations, on the connection that it was given."""

from __future__ import annotations

from alembic import context

if (connection := context.config.attributes.get("connection")) is not None:
    context.configure(connection=connection)
    # The transaction is that of the connection: all or nothing.
    context.run_migrations()
