"""A snapshot as a training reads it, part by part, so that only one part is in memory at a time."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.adapters.snapshot_matrix import BATCH_ROWS, load_matrix
from heliotrope.domain import statistics
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.ports import LabelledRows, SnapshotStore
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import COLUMN_ROW, Task


class SnapshotTrainingData:
    """One snapshot; a `ports.TrainingData`."""

    def __init__(self, store: SnapshotStore, ref: SnapshotRef, spec: ModelSpec) -> None:
        self._store, self._ref, self._spec = store, ref, spec

    @property
    def rows(self) -> int:
        """Rows of the snapshot, unusable ones included: they keep their `_row`."""
        return self._ref.rows

    def event_time(self) -> npt.NDArray[Any] | None:
        """[rows] datetime64[us], UTC, in `_row` order; None without an event time."""
        if self._spec.event_time is None:
            return None
        times = np.empty(self.rows, dtype="datetime64[us]")
        with self._store.open(self._ref) as table:
            query = table.select(row=table[COLUMN_ROW], time=table[self._spec.event_time])
            for batch in query.to_pyarrow_batches(chunk_size=BATCH_ROWS):
                places = batch.column("row").to_numpy(zero_copy_only=False)
                values = batch.column("time").to_numpy(zero_copy_only=False)
                times[places] = values.astype("datetime64[us]")
        return times

    def class_counts(self, rows: range) -> Mapping[str, int]:
        """Usable rows of each class within a range of `_row`; empty for regression."""
        if self._spec.task is Task.REGRESSION:
            return {}
        counts = dict.fromkeys(self._spec.classes, 0)
        with self._store.open(self._ref) as table:
            row = table[COLUMN_ROW]
            part = table.filter((row >= rows.start) & (row < rows.stop))
            part = part.filter(statistics.usable(part, self._spec))
            codes = part.select(code=statistics.label_code(part, self._spec))
            counted = codes.group_by("code").aggregate(rows=codes.count()).to_pyarrow()
        for entry in counted.to_pylist():
            if entry["code"] is not None:
                counts[self._spec.classes[int(entry["code"])]] += int(entry["rows"])
        return counts

    def load(self, rows: range) -> LabelledRows:
        """The usable rows within a range of `_row`, in that order."""
        matrix = load_matrix(self._store, self._ref, self._spec, rows=(rows.start, rows.stop))
        return LabelledRows(matrix.features, matrix.labels, matrix.row_ids)
