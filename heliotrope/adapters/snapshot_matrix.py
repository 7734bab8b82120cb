"""A snapshot as the arrays a model computes on, filled batch by batch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from heliotrope.domain import statistics
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.ports import FloatMatrix, SnapshotStore
from heliotrope.spec import FeatureType, ModelSpec
from heliotrope.vocabulary import COLUMN_ROW, Task

if TYPE_CHECKING:
    import pandas as pd

BATCH_ROWS = 65_536
_LABEL = "_label_code"


@dataclass(frozen=True)
class Matrix:
    """Rows of a snapshot in their stored order, which is the order of event time."""

    features: FloatMatrix
    """float32 [rows, features], C order. Columns in the spec's order: a number is itself, a
    boolean 0 or 1, a category its position in the spec's list, a missing value NaN."""
    labels: npt.NDArray[Any]
    """[rows]. int8 1 or 0 (binary), int32 position in the spec's classes (multiclass),
    float64 (regression)."""
    event_time: npt.NDArray[np.datetime64] | None
    """datetime64[us] [rows], UTC; None where the spec names no event time."""
    row_ids: npt.NDArray[np.int64]
    """The stored position of each row, rising."""
    entity_keys: npt.NDArray[Any] | None = None
    """[rows] object or int64; only on request."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.row_ids)


def load_matrix(
    store: SnapshotStore,
    ref: SnapshotRef,
    spec: ModelSpec,
    *,
    rows: tuple[int, int] | None = None,
    usable_only: bool = True,
    keys: bool = False,
) -> Matrix:
    """Load rows of a snapshot.

    Peak memory is about the arrays themselves: batches are cast by the query engine and written
    to their place by row position, so nothing is sorted and nothing is held twice.

    Args:
        store: where the snapshot is.
        ref: which one.
        spec: names features, label, event time.
        rows: half-open range of stored positions `[from, to)`; all rows when left out.
        usable_only: leave out rows that break a rule (see `statistics.usable`). Switched off,
            an unknown category is NaN and a label that has no code raises.
        keys: whether to load the entity key too.

    Raises:
        NotFoundError: the version is not there any more.
        DataFault: a row's label has no code (only with `usable_only=False`).
    """
    low, high = rows if rows is not None else (0, ref.rows)
    low, high = max(0, low), min(ref.rows, high)
    span = max(0, high - low)
    with store.open(ref) as table:
        part = table.filter((table[COLUMN_ROW] >= low) & (table[COLUMN_ROW] < high))
        kept = np.ones(span, dtype=bool)
        if usable_only:
            bad = part.filter(~statistics.usable(part, spec)).select(COLUMN_ROW)
            for batch in bad.to_pyarrow_batches(chunk_size=BATCH_ROWS):
                kept[batch.column(0).to_numpy(zero_copy_only=False) - low] = False
        filling = _Filling(spec, int(kept.sum()), keys)
        place = np.cumsum(kept, dtype=np.int64) - 1
        query = _query(part, spec, keys)
        for batch in query.to_pyarrow_batches(chunk_size=BATCH_ROWS):
            filling.add(batch, kept, place, low)
    return filling.matrix(np.flatnonzero(kept).astype(np.int64) + low)


def load_frame(
    store: SnapshotStore,
    ref: SnapshotRef,
    *,
    columns: list[str] | None = None,
    rows: tuple[int, int] | None = None,
    limit: int | None = None,
) -> "pd.DataFrame":
    """Load rows as a pandas frame of stored values, in stored order, `_row` first.

    Meant for examples and slices: everything asked for is in memory at once.

    Args:
        store: where the snapshot is.
        ref: which one.
        columns: which columns; all when left out.
        rows: half-open range of stored positions.
        limit: at most so many rows.

    Raises:
        NotFoundError: the version is not there any more.
    """
    with store.open(ref) as table:
        if rows is not None:
            table = table.filter((table[COLUMN_ROW] >= rows[0]) & (table[COLUMN_ROW] < rows[1]))
        if columns is not None:
            table = table.select(COLUMN_ROW, *[c for c in columns if c != COLUMN_ROW])
        table = table.order_by(COLUMN_ROW)
        if limit is not None:
            table = table.limit(limit)
        frame: pd.DataFrame = table.to_pandas()
    return frame


def _query(table: Any, spec: ModelSpec, keys: bool) -> Any:
    columns = {COLUMN_ROW: table[COLUMN_ROW]}
    for index, feature in enumerate(spec.features):
        column = table[feature.name]
        numeric = feature.type is not FeatureType.CATEGORY
        columns[f"f{index}"] = column.cast("float32") if numeric else column
    columns[_LABEL] = statistics.label_code(table, spec)
    if spec.event_time is not None:
        columns["event_time"] = table[spec.event_time]
    if keys and spec.entity_key is not None:
        columns["entity_key"] = table[spec.entity_key]
    return table.select(**columns)


class _Filling:
    """Arrays of their final size, filled in whatever order batches come."""

    def __init__(self, spec: ModelSpec, size: int, keys: bool) -> None:
        self._spec = spec
        kinds = {Task.BINARY: np.int8, Task.MULTICLASS: np.int32, Task.REGRESSION: np.float64}
        self._features = np.empty((size, len(spec.features)), dtype=np.float32)
        self._labels: npt.NDArray[Any] = np.empty(size, dtype=kinds[spec.task])
        self._times = np.empty(size, dtype="datetime64[us]") if spec.event_time else None
        self._keys = np.empty(size, dtype=object) if keys and spec.entity_key else None

    def add(
        self, batch: Any, kept: npt.NDArray[np.bool_], place: npt.NDArray[np.int64], low: int
    ) -> None:
        ids = batch.column(COLUMN_ROW).to_numpy(zero_copy_only=False) - low
        wanted = kept[ids]
        to = place[ids[wanted]]
        for index, feature in enumerate(self._spec.features):
            column = batch.column(f"f{index}")
            values = (
                _positions(column, feature.categories or ())
                if feature.type is FeatureType.CATEGORY
                else column.to_numpy(zero_copy_only=False)
            )
            self._features[to, index] = values[wanted]
        self._labels[to] = self._codes(batch.column(_LABEL), wanted)
        if self._times is not None:
            times = batch.column("event_time").to_numpy(zero_copy_only=False)
            self._times[to] = times[wanted].astype("datetime64[us]")
        if self._keys is not None:
            self._keys[to] = batch.column("entity_key").to_numpy(zero_copy_only=False)[wanted]

    def _codes(self, column: Any, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        from heliotrope.errors import DataFault

        codes: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)[wanted]
        missing = np.isnan(codes.astype(np.float64)) if column.null_count else None
        if missing is not None and missing.any():
            raise DataFault(
                f"label {self._spec.label.name} must be a known value on every row. "
                f"Got {int(missing.sum()):,} rows with none."
            )
        return codes

    def matrix(self, row_ids: npt.NDArray[np.int64]) -> Matrix:
        return Matrix(self._features, self._labels, self._times, row_ids, self._keys)


def _positions(column: Any, categories: tuple[str, ...]) -> npt.NDArray[np.float32]:
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(column, value_set=pa.array(categories, pa.string()))
    positions: npt.NDArray[np.float32] = pc.cast(found, pa.float32()).to_numpy(zero_copy_only=False)
    return positions
