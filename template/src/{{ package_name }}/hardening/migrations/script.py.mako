"""${message[:1].upper() + message[1:].rstrip(".")}."""

from alembic import op

revision = "${up_revision}"
down_revision = ${'"%s"' % down_revision if isinstance(down_revision, str) else repr(down_revision)}


def upgrade() -> None:
    """One statement each. The version before must work with the result: add first, remove one release later."""
    op.execute("SELECT 1")
