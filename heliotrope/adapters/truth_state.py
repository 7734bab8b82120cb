"""What the truth keeps between ticks, in one SQLite file: rows to join with, cells, cursors.

A tick is one transaction: the cursor moves together with all that was read, or nothing did. The
write lock is taken at its start, so a second controller waits or is refused, and counts nothing
twice. Readers see the last finished tick (write-ahead log).
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heliotrope.adapters.truth_rows import RowStore
from heliotrope.domain.truth.cell import Cell, CellKey
from heliotrope.domain.truth.documents import Folded
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.errors import ConflictError

_WAIT_SECONDS = 5.0
_CACHE_KIB = 64 * 1024
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cells (
  start INTEGER NOT NULL, version TEXT NOT NULL, role TEXT NOT NULL, axis INTEGER NOT NULL,
  code INTEGER NOT NULL, statistics BLOB NOT NULL, folded TEXT NOT NULL,
  PRIMARY KEY (start, version, role, axis, code)
);
"""
_WHERE = "WHERE start = ? AND version = ? AND role = ? AND axis = ? AND code = ?"
_SELECT = f"SELECT statistics FROM cells {_WHERE}"  # noqa: S608 - constants
_DELETE = f"DELETE FROM cells {_WHERE}"  # noqa: S608


class TruthTransaction:
    """One tick's reading and writing."""

    def __init__(self, connection: sqlite3.Connection, plan: TruthPlan) -> None:
        self._db = connection
        self.rows = RowStore(connection, plan)
        """Predictions and labels."""

    def cursor(self, table: str) -> int | None:
        """Version of an event table that is read; None before the first."""
        row = self._db.execute(
            "SELECT value FROM meta WHERE name = ?", (f"cursor.{table}",)
        ).fetchone()
        return None if row is None else int(row[0])

    def move_cursor(self, table: str, version: int) -> None:
        """Everything up to this version is read."""
        self._db.execute(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"cursor.{table}", str(version))
        )

    def add(self, gained: Mapping[CellKey, Cell], fold: Callable[[CellKey, Cell], Folded]) -> int:
        """Add statistics to cells and fold these anew; answers how many cells changed."""
        for key, more in gained.items():
            row = self._db.execute(_SELECT, key).fetchone()
            total = more if row is None else Cell.from_bytes(row[0]) + more
            if total.blank:
                self._db.execute(_DELETE, key)
                continue
            folded = fold(key, total).model_dump_json()
            self._db.execute(
                "INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?, ?, ?)",
                (*key, total.to_bytes(), folded),
            )
        return len(gained)


class TruthState:
    """The state of one model's truth."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            yield connection
        finally:
            connection.close()

    @contextmanager
    def transaction(self, plan: TruthPlan) -> Iterator[TruthTransaction]:
        """A tick: all of it is kept, or on any error nothing.

        A plan other than the one the state was made with empties it: everything is read anew.

        Raises:
            ConflictError: another process is ticking.
        """
        with self._open() as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                raise ConflictError(
                    f"{self._path} must be free. Another process is computing this truth."
                ) from error
            try:
                _prepare(connection, plan)
                yield TruthTransaction(connection, plan)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def folded(self, plan: TruthPlan) -> list[tuple[CellKey, Folded]]:
        """What every cell says, by rising window; nothing before the first tick of this plan."""
        return [
            (key, Folded.model_validate_json(text)) for key, text in self._cells(plan, "folded")
        ]

    def cells(self, plan: TruthPlan) -> dict[CellKey, Cell]:
        """Every cell's statistics."""
        return {key: Cell.from_bytes(data) for key, data in self._cells(plan, "statistics")}

    def _cells(self, plan: TruthPlan, column: str) -> Iterable[tuple[CellKey, Any]]:
        if not self._path.exists():
            return
        with self._open() as connection:
            connection.execute("BEGIN")
            if _fingerprint(connection) != plan.fingerprint:
                return
            found = connection.execute(
                f"SELECT start, version, role, axis, code, {column} FROM cells "  # noqa: S608
                "ORDER BY start, version, role, axis, code"
            )
            for row in found:
                yield CellKey(*row[:5]), row[5]


def _prepare(connection: sqlite3.Connection, plan: TruthPlan) -> None:
    if _fingerprint(connection) == plan.fingerprint:
        return
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (name,) in tables:
        connection.execute(f'DROP TABLE "{name}"')
    for statement in _SCHEMA.split(";"):
        connection.execute(statement)
    RowStore(connection, plan).create()
    connection.execute("INSERT INTO meta VALUES ('fingerprint', ?)", (plan.fingerprint,))


def _fingerprint(connection: sqlite3.Connection) -> str | None:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
    if known is None:
        return None
    row = connection.execute("SELECT value FROM meta WHERE name = 'fingerprint'").fetchone()
    return None if row is None else str(row[0])
