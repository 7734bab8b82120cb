"""A snapshot as an evaluation reads it: the holdout whole, what came before only as labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heliotrope.adapters.snapshot_matrix import BATCH_ROWS, load_frame, load_matrix
from heliotrope.domain import statistics
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.ports import FloatMatrix, JudgedRows, SnapshotStore
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import COLUMN_ROW


class SnapshotEvaluationData:
    """One snapshot; a `ports.EvaluationData`."""

    def __init__(self, store: SnapshotStore, ref: SnapshotRef, spec: ModelSpec) -> None:
        self._store, self._ref, self._spec = store, ref, spec

    def holdout(self, rows: range) -> JudgedRows:
        """The usable rows of a range, with their features."""
        matrix = load_matrix(self._store, self._ref, self._spec, rows=(rows.start, rows.stop))
        return JudgedRows(matrix.labels, matrix.event_time, matrix.row_ids, matrix.features)

    def history(self, rows: range) -> JudgedRows:
        """The usable rows of a range, without features: millions of rows stay small."""
        with self._store.open(self._ref) as table:
            row = table[COLUMN_ROW]
            part = table.filter((row >= rows.start) & (row < rows.stop))
            part = part.filter(statistics.usable(part, self._spec))
            columns = {"row": part[COLUMN_ROW], "label": statistics.label_code(part, self._spec)}
            if self._spec.event_time is not None:
                columns["time"] = part[self._spec.event_time]
            parts = [
                [column.to_numpy(zero_copy_only=False) for column in batch.columns]
                for batch in part.select(**columns).to_pyarrow_batches(chunk_size=BATCH_ROWS)
            ]
        if not parts:
            return JudgedRows(np.empty(0), None, np.empty(0, np.int64), None)
        joined = [np.concatenate(values) for values in zip(*parts, strict=True)]
        order = np.argsort(joined[0], kind="stable")
        times = joined[2][order].astype("datetime64[us]") if len(joined) > 2 else None
        return JudgedRows(joined[1][order], times, joined[0][order], None)

    def features_of(self, spec: ModelSpec, judged: JudgedRows) -> FloatMatrix:
        """The same rows in another spec's columns; unknown categories are missing values."""
        with self._store.open(self._ref) as table:
            statistics.require_columns(table.columns, spec, "the snapshot")
        low, high = int(judged.row_ids[0]), int(judged.row_ids[-1]) + 1
        matrix = load_matrix(self._store, self._ref, spec, rows=(low, high), usable_only=False)
        return matrix.features[judged.row_ids - low]

    def raw(self, judged: JudgedRows, most: int) -> Sequence[Mapping[str, Any]]:
        """The same rows as people would send them, at most so many, evenly spaced."""
        picked = judged.row_ids
        if len(picked) > most:
            picked = picked[np.linspace(0, len(picked) - 1, most).round().astype(int)]
        low, high = int(picked[0]), int(picked[-1]) + 1
        frame = load_frame(
            self._store, self._ref, columns=self._spec.feature_names, rows=(low, high)
        )
        chosen = frame[frame[COLUMN_ROW].isin(picked)].drop(columns=COLUMN_ROW)
        plain = chosen.astype(object).where(chosen.notna(), None)
        return [
            {str(name): value for name, value in row.items()} for row in plain.to_dict("records")
        ]
