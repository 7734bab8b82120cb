"""What of a history a training may look at, as snapshots are read (`ports.training`)."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.domain.backtest.history import History, moment
from heliotrope.domain.drift.window import Column, arrow_column
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.errors import DataFault, NotFoundError
from heliotrope.ports import FloatMatrix, JudgedRows, LabelledRows
from heliotrope.spec import Feature, ModelSpec
from heliotrope.vocabulary import Task

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HistoryData:
    """Labelled rows of a history; a `ports.TrainingData` and a `ports.EvaluationData`."""

    past: History
    spec: ModelSpec
    chosen: Rows
    """Places in the history, rising; `_row` is the place among these."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.chosen)

    def event_time(self) -> npt.NDArray[Any] | None:
        """[rows] UTC."""
        return self.past.at[self.chosen]

    def class_counts(self, rows: range) -> Mapping[str, int]:
        """Rows of each class within a range; empty for regression."""
        if self.spec.task is Task.REGRESSION:
            return {}
        counts = np.bincount(self._labels(rows), minlength=len(self.spec.classes))
        return dict(zip(self.spec.classes, counts.tolist(), strict=True))

    def load(self, rows: range) -> LabelledRows:
        """The rows within a range."""
        return LabelledRows(self._features(rows), self._labels(rows), self._ids(rows))

    def holdout(self, rows: range) -> JudgedRows:
        """The rows of a range, with their features."""
        return JudgedRows(
            self._labels(rows), self._times(rows), self._ids(rows), self._features(rows)
        )

    def history(self, rows: range) -> JudgedRows:
        """The rows of a range, without features."""
        return JudgedRows(self._labels(rows), self._times(rows), self._ids(rows), None)

    def features_of(self, spec: ModelSpec, judged: JudgedRows) -> FloatMatrix:
        """The same rows in another spec's columns, which are the same in a backtest."""
        if spec.feature_names != self.spec.feature_names:
            raise DataFault("features must be the same for all versions of a backtest.")
        return self.past.matrix[self.chosen[judged.row_ids]]

    def raw(self, judged: JudgedRows, most: int) -> Sequence[Mapping[str, Any]]:
        """The same rows as people would send them."""
        picked = judged.row_ids[:most]
        found: list[Mapping[str, Any]] = self.past.table.take(self.chosen[picked]).to_pylist()
        return found

    def _ids(self, rows: range) -> Rows:
        return np.arange(rows.start, rows.stop, dtype=np.int64)

    def _features(self, rows: range) -> FloatMatrix:
        return self.past.matrix[self.chosen[rows.start : rows.stop]]

    def _times(self, rows: range) -> Any:
        return self.past.at[self.chosen[rows.start : rows.stop]]

    def _labels(self, rows: range) -> npt.NDArray[Any]:
        labels = self.past.label[self.chosen[rows.start : rows.stop]]
        return labels if self.spec.task is Task.REGRESSION else labels.astype(np.int32)


@dataclass
class HistorySnapshots:
    """Which rows each training of a backtest saw, by what they hold."""

    history: History
    _known: dict[str, Rows] = field(default_factory=dict)

    def take(self, spec: ModelSpec, chosen: Rows, now: datetime, left_out: int) -> SnapshotRef:
        """Keep a choice of rows; the same rows have the same hash."""
        digest = hashlib.sha256(chosen.tobytes()).hexdigest()
        self._known.setdefault(digest, chosen)
        at = self.history.at[chosen]
        return SnapshotRef(
            model=spec.name,
            table="memory://history",
            version=list(self._known).index(digest),
            content_hash=digest,
            rows=len(chosen),
            immature_rows=left_out,
            taken_at=now,
            event_from=moment(at[0]) if len(at) else None,
            event_to=moment(at[-1]) if len(at) else None,
            source=self.history.source,
            columns=(*spec.feature_names, spec.label.name),
        )

    def open(self, ref: SnapshotRef, spec: ModelSpec) -> HistoryData:
        """The rows of a snapshot.

        Raises:
            NotFoundError: it is of another backtest.
        """
        if ref.content_hash not in self._known:
            raise NotFoundError(f"snapshot {ref.content_hash[:12]} must be of this backtest.")
        return HistoryData(self.history, spec, self._known[ref.content_hash])

    @contextmanager
    def columns(self, ref: SnapshotRef) -> Iterator[Callable[[Feature], Column]]:
        """A snapshot column by column."""
        if ref.content_hash not in self._known:
            raise NotFoundError(f"snapshot {ref.content_hash[:12]} must be of this backtest.")
        table = self.history.table.take(self._known[ref.content_hash])
        yield lambda feature: arrow_column(feature, table.column(feature.name))
