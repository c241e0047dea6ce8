"""The table of the example: keep it or delete it; `migrate new "what it does"` begins the next one."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Written so that it also passes where the example has made its table already."""
    op.execute(
        "CREATE TABLE IF NOT EXISTS notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL)"
    )
