"""One hash for the same rows, however they are batched, compressed or laid out in files.

sha256 over, in this order:

1. the schema as text, one `name:type` line a column (Arrow's type names);
2. rows in blocks of `BLOCK_ROWS`; in each block, column by column: the validity bits (least
   significant first, 1 is present), then the values with missing ones as zero. Numbers and times
   are little-endian and fixed width, booleans one byte each, text the int32 lengths followed by
   the UTF-8 bytes.

The block size is part of the definition: another size gives another hash.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_ROWS = 65_536


def blocks(
    batches: "Iterable[pa.RecordBatch]", schema: "pa.Schema", rows: int = BLOCK_ROWS
) -> "Iterator[pa.RecordBatch]":
    """The same rows in batches of exactly `rows`, but for a shorter last one."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            piece = batch.slice(start, rows - held)
            waiting.append(piece)
            held += piece.num_rows
            start += piece.num_rows
            if held == rows:
                yield _joined(waiting, schema)
                waiting, held = [], 0
    if held:
        yield _joined(waiting, schema)


def _joined(pieces: "list[pa.RecordBatch]", schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    table = pa.Table.from_batches(pieces, schema=schema).combine_chunks()
    return table.to_batches()[0]


class ContentHash:
    """Computes the hash while blocks stream by."""

    def __init__(self, schema: "pa.Schema") -> None:
        lines = [f"{field.name}:{field.type}\n" for field in schema]
        self._hash = hashlib.sha256("".join(lines).encode())

    def add(self, block: "pa.RecordBatch") -> None:
        """Take one block of `blocks` in."""
        for column in block.columns:
            valid = column.is_valid().to_numpy(zero_copy_only=False)
            self._hash.update(np.packbits(valid, bitorder="little").tobytes())
            for part in _canonical(column):
                self._hash.update(part)

    def hexdigest(self) -> str:
        """The hash of what was taken in."""
        return self._hash.hexdigest()


def _canonical(column: Any) -> list[bytes]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        filled = pc.fill_null(column, "").cast(pa.large_string())
        lengths = pc.binary_length(filled).to_numpy(zero_copy_only=False).astype("<i4")
        _, offsets, data = filled.buffers()
        ends = np.frombuffer(offsets, dtype="<i8")[filled.offset :]
        first, last = int(ends[0]), int(ends[len(filled)])
        return [lengths.tobytes(), b"" if data is None else data.slice(first, last - first)]
    if pa.types.is_boolean(kind):
        filled = pc.fill_null(column, False).cast(pa.uint8())
    elif pa.types.is_timestamp(kind):
        filled = pc.fill_null(column.cast(pa.int64()), 0)
    else:
        filled = pc.fill_null(column, pa.scalar(0, kind))
    values = filled.to_numpy(zero_copy_only=False)
    return [values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()]
