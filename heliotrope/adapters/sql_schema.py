"""Bringing the controller's database to the schema of this release."""

from pathlib import Path

import sqlalchemy as sa

from heliotrope.errors import HeliotropeError

HEAD = "0001"
"""The newest script in `sql_migrations/versions`."""
VERSION_TABLE = "heliotrope_version"
"""Not Alembic's own name for it, which MLflow takes where both share a database."""
_LOCK = 0x48454C494F
"""Says to PostgreSQL what is locked while migrating: `HELIO`."""
_SCRIPTS = Path(__file__).parent / "sql_migrations"


def migrate(connection: sa.Connection) -> str | None:
    """Run the scripts that this database lacks; answers the revision it was at before.

    Safe when two start at once: the second waits for the first one's transaction and finds all
    done. On SQLite the transaction must have begun as IMMEDIATE.

    Args:
        connection: within a transaction, which the caller commits.

    Raises:
        HeliotropeError: a newer release has been here.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    before = current(connection)
    if before == HEAD:
        return before
    # Imported here: it costs a third of a second, which only a database that is behind pays.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise HeliotropeError(
            f"The state's schema must be {HEAD} or older, so that this release can read it. "
            f"Got {before}: a newer Heliotrope was here."
        ) from error
    return before


def current(connection: sa.Connection) -> str | None:
    """The revision a database is at; None when it is empty."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version = sa.table(VERSION_TABLE, sa.column("version_num", sa.Text))
    return connection.execute(sa.select(version.c.version_num)).scalar_one_or_none()
