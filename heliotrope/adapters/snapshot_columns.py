"""A snapshot column by column, as drift's reference is made: one column in memory at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from heliotrope.domain.drift.window import Column, Words, arrow_column
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.ports import SnapshotStore
from heliotrope.spec import Feature, FeatureType

BATCH_ROWS = 262_144


@contextmanager
def snapshot_columns(
    store: SnapshotStore, ref: SnapshotRef
) -> Iterator[Callable[[Feature], Column]]:
    """Reads any feature's rows, in no order; ten million rows of a number are 40 MB.

    Raises:
        NotFoundError: the snapshot's files are gone.
    """
    with store.open(ref) as table:

        def read(feature: Feature) -> Column:
            column = table[feature.name]
            if feature.type is not FeatureType.CATEGORY:
                column = column.cast("float32")
            batches = table.select(value=column).to_pyarrow_batches(chunk_size=BATCH_ROWS)
            parts = [arrow_column(feature, batch.column(0)) for batch in batches]
            return _joined(feature, parts)

        yield read


def _joined(feature: Feature, parts: list[Column]) -> Column:
    words = [part for part in parts if isinstance(part, Words)]
    if len(words) != len(parts) or not parts:
        numbers = [part for part in parts if isinstance(part, np.ndarray)]
        return np.concatenate(numbers) if numbers else np.empty(0, dtype=np.float32)
    values = tuple(dict.fromkeys(word for part in words for word in part.values))
    place = {word: code for code, word in enumerate(values)}
    codes = []
    for part in words:
        table = np.array([*(place[word] for word in part.values), -1], dtype=np.int32)
        codes.append(table[part.codes])
    return Words(np.concatenate(codes), values or (feature.categories or ()))
