"""MLflow's own database, migrated by one process at a time (`ports.Schema`).

MLflow guards its first start by a file in the machine's temporary folder, which two pods do not
share: both find the database empty, and one of them dies on a table that is there already. Here
the lock is in the database.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import make_url

from heliotrope.adapters.mlflow_link import locked, mask
from heliotrope.errors import HeliotropeError, UnavailableError, UsageError
from heliotrope.ports.state import SchemaStatus
from heliotrope.vocabulary import ENV_MLFLOW_BACKEND

_LOCK = 0x4D4C464C4F57
"""Says to PostgreSQL what is locked while migrating: `MLFLOW`."""
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_CONNECT_SECONDS = 5


def is_database(uri: str) -> bool:
    """Whether a tracking URI is a database of which the tables are ours to migrate.

    >>> [is_database(uri) for uri in ("http://mlflow:5000", "sqlite:///a.db", "postgresql://h/d")]
    [False, True, True]
    """
    return uri.split(":", 1)[0].split("+", 1)[0] in ("sqlite", "postgresql", "postgres")


class MlflowSchema:
    """Looks at and migrates MLflow's backend store.

    Args:
        uri: `sqlite:///path` or `postgresql://user:password@host/database`.

    Raises:
        UsageError: the URI is neither.
    """

    def __init__(self, uri: str) -> None:
        if not is_database(uri):
            raise UsageError(
                f"{ENV_MLFLOW_BACKEND} must be sqlite:///path or "
                f"postgresql://user:password@host/database. Got {mask(uri)!r}."
            )
        url = make_url(uri)
        self._url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
        self._file = Path(url.database or "") if url.drivername == "sqlite" else None
        self.shown = self._url.render_as_string(hide_password=True)

    def __repr__(self) -> str:
        """Without the password."""
        return f"MlflowSchema({self.shown!r})"

    def status(self) -> SchemaStatus:
        """As it is; nothing is changed, and no file is made."""
        from mlflow.store.db.utils import _get_schema_version

        if self._file is not None and not self._file.exists():
            return self._status(None)
        with self._errors(), self._engine() as engine:
            return self._status(_get_schema_version(engine))

    def migrate(self) -> SchemaStatus:
        """Make or upgrade MLflow's tables, under a lock; answers how they stood before."""
        # What `mlflow server` and `mlflow db upgrade` call; MLflow's version is pinned.
        from mlflow.store.db.utils import (
            _all_tables_exist,
            _get_schema_version,
            _initialize_tables,
            _upgrade_db,
        )

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._errors(), self._engine() as engine, self._locked(engine):
            before = self._status(_get_schema_version(engine))
            if not before.current:
                upgrade = _upgrade_db if _all_tables_exist(engine) else _initialize_tables
                upgrade(engine)
            return before

    @contextmanager
    def _engine(self) -> Iterator[sa.Engine]:
        connect: dict[str, Any] = (
            {} if self._file is not None else {"connect_timeout": _CONNECT_SECONDS}
        )
        engine = sa.create_engine(self._url, connect_args=connect, hide_parameters=True)
        try:
            yield engine
        finally:
            engine.dispose()

    @contextmanager
    def _locked(self, engine: sa.Engine) -> Iterator[None]:
        if self._file is not None:
            with locked(self._file.with_name(self._file.name + ".lock")):
                yield
            return
        # Of the session, not of a transaction, since Alembic commits in between; a holder that
        # dies lets go of it with its connection.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(_LOCK)))
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(_LOCK)))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from alembic.util.exc import CommandError

        try:
            yield
        except (exc.OperationalError, exc.InterfaceError) as error:
            raise UnavailableError(
                f"MLflow's database {self.shown} must answer. Got: {self._brief(error.orig)}"
            ) from error
        except exc.DBAPIError as error:
            raise HeliotropeError(
                f"MLflow's database {self.shown} must take its tables. "
                f"Got: {self._brief(error.orig)}"
            ) from error
        except CommandError as error:
            raise HeliotropeError(
                f"MLflow's database {self.shown} must be of this MLflow or an older one. "
                f"Got: {self._brief(error)}"
            ) from error

    def _brief(self, error: object) -> str:
        text = (str(error).strip().splitlines() or ["no answer"])[0]
        secret = str(self._url.password or "")
        return text.replace(secret, "***") if secret else text

    def _status(self, revision: str | None) -> SchemaStatus:
        from mlflow.store.db.utils import _get_latest_schema_revision

        return SchemaStatus("mlflow", self.shown, revision, str(_get_latest_schema_revision()))
