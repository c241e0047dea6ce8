"""Off the serving path: brings the database up to date with Alembic, as one process, before the servers start."""
