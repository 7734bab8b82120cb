"""What the truth keeps between ticks, in one SQLite file: rows to join with, cells, cursors.

A tick is one transaction: the cursor moves together with all that was read, or nothing did. The
write lock is taken at its start, so a second controller waits or is refused, and counts nothing
twice. Readers see the last finished tick (write-ahead log).
"""

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from heliotrope.adapters.truth_rows import SWEPT_EACH, RowStore
from heliotrope.domain.truth.cell import Cell, CellKey
from heliotrope.domain.truth.documents import Folded
from heliotrope.domain.truth.feed import TruthChanges, TruthMark
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.errors import ConflictError, UnavailableError

_WAIT_SECONDS = 5.0
_CACHE_KIB = 64 * 1024
_PRIMARY = 0xFF
"""Of SQLite's extended error codes, the part that says what kind it is."""
_DISK_SAYS_NO = (
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
)  # fmt: skip
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cells (
  start INTEGER NOT NULL, version TEXT NOT NULL, role TEXT NOT NULL, axis INTEGER NOT NULL,
  code INTEGER NOT NULL, statistics BLOB NOT NULL, folded TEXT, revision INTEGER NOT NULL,
  PRIMARY KEY (start, version, role, axis, code)
);
CREATE INDEX cells_revision ON cells (revision);
"""
_WHERE = "WHERE start = ? AND version = ? AND role = ? AND axis = ? AND code = ?"
_SELECT = f"SELECT statistics FROM cells {_WHERE}"  # noqa: S608 - constants


class TruthTransaction:
    """One tick's reading and writing."""

    def __init__(self, connection: sqlite3.Connection, plan: TruthPlan) -> None:
        self._db, self._horizon = connection, plan.horizon_us
        before = _meta(connection, "before")
        self.rows = RowStore(connection, plan, int(before) if before else None)
        """Predictions and labels."""
        self._revision = int(_meta(connection, "revision") or 0)
        self._restated = False

    def cursor(self, table: str) -> int | None:
        """Version of an event table that is read; None before the first."""
        found = _meta(self._db, f"cursor.{table}")
        return None if found is None else int(found)

    def move_cursor(self, table: str, version: int) -> None:
        """Everything up to this version is read."""
        _set_meta(self._db, f"cursor.{table}", str(version))

    def add(self, gained: Mapping[CellKey, Cell], fold: Callable[[CellKey, Cell], Folded]) -> int:
        """Add statistics to cells and fold these anew; answers how many cells changed."""
        for key, more in gained.items():
            row = self._db.execute(_SELECT, key).fetchone()
            total = more if row is None else Cell.from_bytes(row[0]) + more
            # A blank cell stays, so that whoever knew it before learns that it is gone.
            folded = None if total.blank else fold(key, total).model_dump_json()
            self._db.execute(
                "INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*key, total.to_bytes(), folded, self._revision + 1),
            )
        self._restated = self._restated or bool(gained)
        return len(gained)

    def forget(self, now: int, fresh: int) -> int:
        """Forget rows beyond the horizon, as many on as are new; answers how many went.

        Args:
            now: microseconds since 1970. The newest prediction is trusted up to there only: one
                that a wrong clock dates far ahead must not take the others with it.
            fresh: rows that are new.
        """
        self._note_newest()
        newest = _meta(self._db, "newest")
        if newest is None:
            return 0
        before = self._raise("before", min(int(newest), now) - self._horizon)
        gone = 0
        for table in ("predictions", "labels"):
            place = _meta(self._db, f"swept.{table}")
            after = tuple(json.loads(place)) if place else None
            after, forgotten = self.rows.sweep(table, before, after, SWEPT_EACH * fresh)
            _set_meta(self._db, f"swept.{table}", json.dumps(after) if after else "")
            gone += forgotten
        return gone

    def _note_newest(self) -> None:
        if self.rows.newest is not None:
            self._raise("newest", self.rows.newest)

    def _raise(self, name: str, value: int) -> int:
        """Keep the greater of what is kept and this."""
        known = _meta(self._db, name)
        greater = value if known is None else max(int(known), value)
        _set_meta(self._db, name, str(greater))
        return greater

    def finish(self) -> None:
        """Note what the tick as a whole changed."""
        if self._restated:
            _set_meta(self._db, "revision", str(self._revision + 1))
        self._note_newest()


class TruthState:
    """The state of one model's truth."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None)
            with closing(connection):
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                yield connection
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY not in _DISK_SAYS_NO:
                raise
            raise UnavailableError(
                f"The truth's state {self._path} must take writes and reads. Got: {error}."
            ) from error

    @contextmanager
    def transaction(self, plan: TruthPlan) -> Iterator[TruthTransaction]:
        """A tick: all of it is kept, or on any error nothing.

        A plan other than the one the state was made with empties it: everything is read anew.

        Raises:
            ConflictError: another process is ticking.
            UnavailableError: the disk is full, read-only or broken.
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
                step = TruthTransaction(connection, plan)
                yield step
                step.finish()
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

    def changes(self, plan: TruthPlan, since: TruthMark | None) -> TruthChanges:
        """What other cells say than they did; costs in proportion to what changed.

        Args:
            plan: of the model.
            since: the mark of an earlier answer; None, or one of a state that was emptied since,
                is answered with everything.
        """
        if not self._path.exists():
            return TruthChanges(None, True, {}, (), None)
        with self._open() as connection:
            connection.execute("BEGIN")
            if _fingerprint(connection) != plan.fingerprint:
                return TruthChanges(None, True, {}, (), None)
            newest = _meta(connection, "newest")
            mark = TruthMark(
                _meta(connection, "made") or "", int(_meta(connection, "revision") or 0)
            )
            whole = since is None or since.made != mark.made
            after = 0 if since is None or whole else since.revision
            found = connection.execute(
                "SELECT start, version, role, axis, code, folded FROM cells WHERE revision > ?",
                (after,),
            ).fetchall()
            restated = {
                CellKey(*row[:5]): Folded.model_validate_json(row[5]) for row in found if row[5]
            }
            gone = tuple(CellKey(*row[:5]) for row in found if not row[5])
            return TruthChanges(mark, whole, restated, gone, int(newest) if newest else None)

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
                "WHERE folded IS NOT NULL ORDER BY start, version, role, axis, code"
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
    _set_meta(connection, "fingerprint", plan.fingerprint)
    _set_meta(connection, "made", secrets.token_hex(8))


def _fingerprint(connection: sqlite3.Connection) -> str | None:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
    if known is None:
        return None
    return _meta(connection, "fingerprint")


def _meta(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _set_meta(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
