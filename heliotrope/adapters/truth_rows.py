"""The rows the truth joins with: every prediction and label once, found by key in a B-tree.

A tick looks up what its new rows touch and nothing else. It answers with the rows as they were and
as they are (`sign` -1 and 1): the difference of their statistics is what the windows gain.

What is too old to be restated is forgotten by a sweep that goes round the tables, a few rows on for
each new one: so the tables stay about as large as the horizon, and no tick pays for all of them.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.domain.truth.rows import (
    BY_ENTITY,
    BY_ID,
    LABEL_KEY,
    LABEL_ORDER,
    PREDICTION_KEY,
    PREDICTION_ORDER,
)

Row = tuple[Any, ...]
SWEPT_EACH = 4
"""Rows that are looked at for each new one: the tables hold a third more than they must."""
_OLD = {
    "predictions": "at < :before",
    # A label that a kept prediction has counted must stay: a correction takes it off again.
    "labels": "received < :before AND CASE kind WHEN :by_id THEN NOT EXISTS "
    "(SELECT 1 FROM predictions p WHERE p.prediction_id = labels.target) ELSE until < :before END",
}
_KEYS = {"predictions": PREDICTION_KEY, "labels": LABEL_KEY}

_LABEL_COLUMNS = (*LABEL_KEY, "value", "until", "received")
_LABEL_TYPES = (*[pa.string()] * 3, pa.float64(), pa.int64(), pa.int64())


@dataclass(frozen=True)
class Touched:
    """What a batch of new rows changed."""

    predictions: pa.Table
    """Clean predictions with `sign`: -1 as they were, 1 as they are."""
    labels: pa.Table
    """The labels these had (-1) and have (1)."""
    fresh: int
    """Rows that were not known."""
    repeated: int
    """Rows that were known."""
    late: int = 0
    """Rows that are too old to be told from forgotten ones; nothing was done with them."""

    @property
    def entities(self) -> bool:
        """Whether any label is by entity key."""
        return BY_ENTITY in self.labels.column("kind").unique().to_pylist()


class RowStore:
    """Predictions and labels in an open transaction.

    Args:
        connection: in the transaction.
        plan: of the model.
        before: predictions made before this, microseconds since 1970, may be forgotten already.
    """

    def __init__(
        self, connection: sqlite3.Connection, plan: TruthPlan, before: int | None = None
    ) -> None:
        self._db, self._before = connection, before
        self._columns = (
            *PREDICTION_KEY, "at", "entity", "called", "score",
            *plan.score_columns, *plan.slice_columns,
        )  # fmt: skip
        self._types = (
            *[pa.string()] * 3, pa.int64(), pa.string(), pa.int32(), pa.float64(),
            *[pa.float64() for _ in plan.score_columns],
            *[pa.int32() for _ in plan.slice_columns],
        )  # fmt: skip
        self.newest: int | None = None
        """When the newest of the predictions taken in since was made, microseconds since 1970."""

    def create(self) -> None:
        """Make the tables."""
        rest = ", ".join(self._columns[3:])
        self._db.execute(
            "CREATE TABLE predictions (prediction_id TEXT, version TEXT, role TEXT, "
            f"{rest}, PRIMARY KEY (prediction_id, version, role)) WITHOUT ROWID"
        )
        self._db.execute(
            "CREATE TABLE labels (kind TEXT, target TEXT, label_id TEXT, value REAL, "
            "until INTEGER, received INTEGER, PRIMARY KEY (kind, target, label_id)) WITHOUT ROWID"
        )

    def absorb_predictions(self, batch: pa.Table) -> Touched:
        """Keep new predictions; of one known already, the lesser by `PREDICTION_ORDER`."""
        every = _tuples(batch, self._columns)
        rows = self._young(every)
        self._note_newest(rows)
        before: list[Row] = []
        after = rows
        repeated = 0
        if not self._insert_all("predictions", rows, len(self._columns)):
            known = self._known("predictions", rows, len(PREDICTION_KEY))
            before, after = _settle(
                rows, known, len(PREDICTION_KEY), _order(self._columns, PREDICTION_ORDER)
            )
            repeated = len(known)
            self._replace("predictions", after, len(self._columns))
        labels = self._labels_of([*before, *after])
        return Touched(
            self._signed_predictions(before, after),
            _signed(_LABEL_COLUMNS, _LABEL_TYPES, labels if before else [], labels),
            fresh=len(rows) - repeated,
            repeated=repeated,
            late=len(every) - len(rows),
        )

    def _young(self, rows: list[Row]) -> list[Row]:
        if self._before is None:
            return rows
        at = self._columns.index("at")
        return [row for row in rows if row[at] >= self._before]

    def load_predictions(self, batch: pa.Table) -> int:
        """Keep predictions where there are none yet, each key once; answers how many."""
        rows = _tuples(batch, self._columns)
        self._note_newest(rows)
        return self._load("predictions", rows, len(self._columns))

    def _note_newest(self, rows: list[Row]) -> None:
        at = self._columns.index("at")
        known = () if self.newest is None else (self.newest,)
        self.newest = max((*known, *(row[at] for row in rows)), default=None)

    def load_labels(self, batch: pa.Table) -> int:
        """Keep labels where there are none yet, each key once; answers how many."""
        if BY_ENTITY in batch.column("kind").unique().to_pylist():
            self._index_entities()
        return self._load("labels", _tuples(batch, _LABEL_COLUMNS), len(_LABEL_COLUMNS))

    def _index_entities(self) -> None:
        # Made when the first label by entity key comes: who sends none pays for no index.
        self._db.execute(
            "CREATE INDEX IF NOT EXISTS predictions_entity ON predictions (entity) "
            "WHERE entity IS NOT NULL"
        )

    def _load(self, table: str, rows: list[Row], width: int) -> int:
        marks = ", ".join("?" * width)
        self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608
        return len(rows)

    def absorb_labels(self, batch: pa.Table) -> Touched:
        """Keep new labels; of one sent again, the first received. Touches what they belong to."""
        rows = _tuples(batch, _LABEL_COLUMNS)
        known = self._known("labels", rows, len(LABEL_KEY))
        _, changed = _settle(rows, known, len(LABEL_KEY), _order(_LABEL_COLUMNS, LABEL_ORDER))
        affected = self._predictions_of(changed)
        had = self._labels_of(affected)
        self._replace("labels", changed, len(_LABEL_COLUMNS))
        have = self._labels_of(affected)
        return Touched(
            self._signed_predictions(affected, affected),
            _signed(_LABEL_COLUMNS, _LABEL_TYPES, had, have),
            fresh=len(rows) - len(known),
            repeated=len(known),
        )

    def waiting_labels(self) -> int:
        """Labels by id whose prediction is not known yet. Looks at every label."""
        row = self._db.execute(
            "SELECT count(*) FROM labels l WHERE kind = ? AND NOT EXISTS "
            "(SELECT 1 FROM predictions p WHERE p.prediction_id = l.target)",
            (BY_ID,),
        ).fetchone()
        return int(row[0])

    def sweep(
        self, table: str, before: int, after: Row | None, count: int
    ) -> tuple[Row | None, int]:
        """Look at the next rows in the order of their key, and forget the old ones.

        Args:
            table: `predictions` or `labels`.
            before: what is older is forgotten, microseconds since 1970.
            after: the key that was last looked at; None begins at the first.
            count: rows to look at.

        Returns:
            The key to go on after, None at the end of the table, and how many were forgotten.
        """
        if count < 1:
            return after, 0
        names = ", ".join(_KEYS[table])
        marks: dict[str, Any] = {"before": before, "by_id": BY_ID, "count": count - 1}
        within = "1"
        if after is not None:
            marks |= {f"a{place}": value for place, value in enumerate(after)}
            within = f"({names}) > (:a0, :a1, :a2)"
        last = self._db.execute(
            f"SELECT {names} FROM {table} WHERE {within} "  # noqa: S608
            f"ORDER BY {names} LIMIT 1 OFFSET :count",
            marks,
        ).fetchone()
        if last is not None:
            marks |= {f"z{place}": value for place, value in enumerate(last)}
            within += f" AND ({names}) <= (:z0, :z1, :z2)"
        gone = self._db.execute(
            f"DELETE FROM {table} WHERE {within} AND {_OLD[table]}",  # noqa: S608
            marks,
        )
        return last, gone.rowcount

    def _insert_all(self, table: str, rows: list[Row], width: int) -> bool:
        # Most batches hold nothing known; inserting them finds that out without a look-up each.
        self._db.execute("SAVEPOINT fresh")
        before = self._db.total_changes
        marks = ", ".join("?" * width)
        self._db.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)  # noqa: S608
        complete = self._db.total_changes - before == len(rows)
        if not complete:
            self._db.execute("ROLLBACK TO fresh")
        self._db.execute("RELEASE fresh")
        return complete

    def _replace(self, table: str, rows: list[Row], width: int) -> None:
        marks = ", ".join("?" * width)
        self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)  # noqa: S608

    def _known(self, table: str, rows: list[Row], width: int) -> dict[Row, Row]:
        self._look_for(row[:width] for row in rows)
        on = " AND ".join(f"t.{name} = w.k{place}" for place, name in enumerate(_KEYS[table]))
        found = self._db.execute(
            f"SELECT t.* FROM temp.wanted w CROSS JOIN {table} t ON {on}"  # noqa: S608
        )
        return {tuple(row[:width]): tuple(row) for row in found}

    def _look_for(self, keys: Iterable[Sequence[Any]]) -> None:
        self._db.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (k0 TEXT, k1 TEXT, k2 TEXT)")
        self._db.execute("DELETE FROM temp.wanted")
        padded = ((*key, None, None)[:3] for key in keys)
        self._db.executemany("INSERT INTO temp.wanted VALUES (?, ?, ?)", padded)

    def _predictions_of(self, labels: list[Row]) -> list[Row]:
        by_entity = {row[1] for row in labels if row[0] == BY_ENTITY}
        self._look_for((target,) for target in {row[1] for row in labels if row[0] == BY_ID})
        columns = ", ".join(f"p.{name}" for name in self._columns)
        found = self._db.execute(
            f"SELECT {columns} FROM temp.wanted w CROSS JOIN predictions p "  # noqa: S608
            "ON p.prediction_id = w.k0"
        ).fetchall()
        if not by_entity:
            return found
        self._index_entities()
        self._look_for((target,) for target in by_entity)
        more = self._db.execute(
            f"SELECT {columns} FROM temp.wanted w CROSS JOIN predictions p "  # noqa: S608
            "ON p.entity = w.k0"
        )
        return list({row[:3]: row for row in (*found, *more)}.values())

    def _labels_of(self, predictions: list[Row]) -> list[Row]:
        if self._db.execute("SELECT 1 FROM labels LIMIT 1").fetchone() is None:
            return []
        entity = self._columns.index("entity")
        targets = {(BY_ID, row[0]) for row in predictions}
        if self._db.execute("SELECT 1 FROM labels WHERE kind = ? LIMIT 1", (BY_ENTITY,)).fetchone():
            targets |= {(BY_ENTITY, row[entity]) for row in predictions if row[entity] is not None}
        self._look_for(targets)
        return self._db.execute(
            "SELECT l.* FROM temp.wanted w CROSS JOIN labels l ON l.kind = w.k0 AND l.target = w.k1"
        ).fetchall()

    def _signed_predictions(self, before: list[Row], after: list[Row]) -> pa.Table:
        return _signed(self._columns, self._types, before, after)


def _order(columns: Sequence[str], order: Sequence[str]) -> list[int]:
    return [columns.index(name) for name in order]


def _settle(
    rows: list[Row], known: dict[Row, Row], width: int, order: list[int]
) -> tuple[list[Row], list[Row]]:
    """Known rows that give way, and the rows that are new or take their place."""
    before, after = [], []
    for row in rows:
        old = known.get(row[:width])
        if old is None:
            after.append(row)
        elif _rank(row, order) < _rank(old, order):
            before.append(old)
            after.append(row)
    return before, after


def _rank(row: Row, order: list[int]) -> list[tuple[bool, Any]]:
    return [(row[place] is None, row[place]) for place in order]


def _tuples(batch: pa.Table, columns: Sequence[str]) -> list[Row]:
    return list(zip(*(batch.column(name).to_pylist() for name in columns), strict=True))


def _signed(
    columns: Sequence[str], types: Sequence[Any], before: list[Row], after: list[Row]
) -> pa.Table:
    rows = [*before, *after]
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    arrays = {
        name: pa.array(column, kind)
        for name, kind, column in zip(columns, types, values, strict=True)
    }
    sign = pa.array([-1] * len(before) + [1] * len(after), pa.int64())
    return pa.table({**arrays, "sign": sign})
