"""One SQL database: transactions, patience for a bounded time, errors in our own words."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import stamina
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, make_url

from heliotrope.adapters.sql_schema import migrate
from heliotrope.errors import HeliotropeError, UnavailableError, UsageError
from heliotrope.vocabulary import ENV_STATE

Answer = TypeVar("Answer")

_DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}
_WRITE = "heliotrope_write"
_HOPELESS = (
    "authentication failed",
    "does not exist",
    "no password",
    "denied",
    "readonly",
    "no such",
)
"""What asking again does not mend."""
_CONNECT_SECONDS = 5


class _Transient(Exception):
    """The database may answer if asked again."""


class SqlLink:
    """A database, opened and migrated when it is first used; for any number of threads.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host/database`.
        patience: seconds that one transaction is tried again while the database does not answer.
        migrating: bring the schema up to date first; False for who looks at it as it is.

    Raises:
        UsageError: the URL is neither.
    """

    def __init__(self, url: str, *, patience: float = 20.0, migrating: bool = True) -> None:
        self._migrating = migrating
        parsed = _parse(url)
        self.shown = parsed.render_as_string(hide_password=True)
        self._secret = str(parsed.password or "")
        self._patience = patience
        self._file = Path(parsed.database or "") if parsed.drivername == "sqlite" else None
        self._engine = _engine(parsed, patience)
        self._writing = self._engine.execution_options(**{_WRITE: True})
        self._opening = threading.Lock()
        self._open = False
        # stamina prints a line for every try where nobody listens.
        logging.getLogger("stamina").addHandler(logging.NullHandler())

    def __repr__(self) -> str:
        """Without the password."""
        return f"SqlLink({self.shown!r})"

    @property
    def file(self) -> Path | None:
        """The SQLite file, where it is one."""
        return self._file

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    def read(self, work: Callable[[sa.Connection], Answer]) -> Answer:
        """Call `work` in a transaction that sees one state of the database."""
        return self._patiently(lambda: self._transact(self._engine, work))

    def write(self, work: Callable[[sa.Connection], Answer]) -> Answer:
        """Call `work` in a transaction and commit it; an exception of `work` takes all back.

        `work` is called again when the database let go of it before the commit, so it must do
        nothing but talk to the database.
        """
        return self._patiently(lambda: self._transact(self._writing, work))

    def close(self) -> None:
        """Let go of all connections; the next use opens new ones."""
        self._engine.dispose()

    def _transact(self, engine: sa.Engine, work: Callable[[sa.Connection], Answer]) -> Answer:
        self._ensure_open()
        with engine.connect() as connection, connection.begin() as transaction:
            answer = work(connection)
            try:
                transaction.commit()
            except exc.DBAPIError as error:
                if self._file is None:
                    # The commit may have arrived: doing all again would meet what it wrote.
                    raise self._unavailable(error) from error
                raise
            return answer

    def _ensure_open(self) -> None:
        with self._opening:
            if self._open:
                return
            if self._file is not None:
                _make_file(self._file)
            if self._migrating:
                with self._writing.begin() as connection:
                    migrate(connection)
            self._open = True

    def _patiently(self, call: Callable[[], Answer]) -> Answer:
        try:
            for attempt in stamina.retry_context(
                on=_Transient,
                attempts=None,
                timeout=self._patience,
                wait_initial=0.05,
                wait_max=2.0,
                wait_jitter=0.1,
            ):
                with attempt:
                    return self._once(call)
        except _Transient as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            raise self._unavailable(cause) from cause
        raise AssertionError("a retry loop ends with an answer or an error")

    def _once(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except exc.DBAPIError as error:
            text = str(error.orig)
            if any(word in text for word in _HOPELESS):
                raise self._wrong(error) from error
            if isinstance(error, exc.OperationalError | exc.InterfaceError):
                raise _Transient(self._hide(text)) from error
            raise self._wrong(error) from error
        except exc.TimeoutError as error:
            raise _Transient("all connections are taken") from error

    def _unavailable(self, error: Exception) -> UnavailableError:
        return UnavailableError(
            f"The state's database {self.shown} must answer within {self._patience:g} s. "
            f"Got: {self._first_line(error)}"
        )

    def _wrong(self, error: exc.DBAPIError) -> HeliotropeError:
        return HeliotropeError(
            f"The state's database {self.shown} must take what is asked of it; see {ENV_STATE}. "
            f"Got: {self._first_line(error)}"
        )

    def _first_line(self, error: Exception) -> str:
        text = str(error.orig if isinstance(error, exc.DBAPIError) else error).strip()
        return self._hide(text.splitlines()[0] if text else type(error).__name__)

    def _hide(self, text: str) -> str:
        return text.replace(self._secret, "***") if self._secret else text


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        driver = _DRIVERS[parsed.drivername]
    except (exc.ArgumentError, KeyError, ValueError):
        # Not shown: what does not parse may hold a password anywhere.
        raise UsageError(
            f"{ENV_STATE} must be sqlite:///path or postgresql://user:password@host/database. "
            f"Got a URL of kind {url.partition(':')[0]!r}."
        ) from None
    if driver == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UsageError(f"{ENV_STATE} must name a file, since processes share it. Got {url!r}.")
    return parsed.set(drivername=driver)


def _engine(url: URL, patience: float) -> sa.Engine:
    if url.drivername == "sqlite":
        # autocommit, since Python's driver would begin transactions itself, and too late.
        connect: dict[str, Any] = {"timeout": min(patience, 60.0), "isolation_level": None}
        engine = sa.create_engine(url, connect_args=connect, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    connect = {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "heliotrope",
        "keepalives_idle": 10,
        "tcp_user_timeout": int(max(patience, 1.0) * 1000),
    }
    try:
        engine = sa.create_engine(
            url, connect_args=connect, pool_pre_ping=True, hide_parameters=True
        )
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{ENV_STATE} on PostgreSQL needs psycopg: install heliotrope[cluster]. Got: {error}."
        ) from error
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only its owner may read who decided what; the files beside it get the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise HeliotropeError(
            f"The state's file {path} must be writable. Got: {error.strerror or error}."
        ) from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    # FULL: a decision that was answered outlives the machine's power.
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _begin_postgresql(connection: sa.Connection) -> None:
    connection.exec_driver_sql("SET LOCAL statement_timeout = '60s'")
    if not connection.get_execution_options().get(_WRITE, False):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
