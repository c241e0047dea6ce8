"""Notes, orders and articles; the administrator has created the extension vector."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = {
    "notes": "tenant text NOT NULL, body text NOT NULL",
    "orders": "tenant text NOT NULL, item text NOT NULL, amount integer NOT NULL, told boolean NOT NULL DEFAULT false",
    "articles": """
        title text NOT NULL, attributes jsonb NOT NULL, embedding vector(16) NOT NULL,
        words tsvector GENERATED ALWAYS AS (to_tsvector('english', title)) STORED
    """,
}
OF_TENANTS = ("notes", "orders")


def upgrade() -> None:
    """Row-level security binds the owner too: it is the role of the server."""
    for name, columns in TABLES.items():
        op.execute(f"CREATE TABLE {name} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {columns})")
    op.execute("CREATE INDEX articles_words ON articles USING gin (words)")
    for name in OF_TENANTS:
        op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
        rule = "tenant = current_setting('mcp.tenant', true) AND tenant <> ''"
        op.execute(f"CREATE POLICY tenant ON {name} USING ({rule})")
