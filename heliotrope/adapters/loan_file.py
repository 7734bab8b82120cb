"""Generated loans to a Parquet file, a chunk at a time."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from heliotrope.domain.synthetic import Categorical, Column, LoanBatch, LoanGenerator
from heliotrope.errors import UsageError

COLUMN_TRUTH = "true_default_probability"
_TYPES = {
    "integer": pa.int64(),
    "float": pa.float64(),
    "category": pa.string(),
    "boolean": pa.bool_(),
}


def loan_batches(
    generator: LoanGenerator, with_truth: bool = False, first: int = 0, stop: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Loans as Arrow record batches: `issued_at` in UTC, whole numbers int64, missing is null."""
    kinds = generator.column_kinds()
    for batch in generator.batches(first=first, stop=stop):
        yield _record_batch(batch, kinds, with_truth)


def write_loans(generator: LoanGenerator, path: Path, with_truth: bool = False) -> int:
    """Write a Parquet file, whole or not at all; answers how many loans it holds.

    Never needs more memory than a chunk.

    Args:
        generator: of the loans.
        path: replaced when it is there.
        with_truth: adds the column `true_default_probability`, which no model must be given.

    Raises:
        UsageError: a column vanishes or is renamed in the middle, which one file cannot hold; or
            the folder cannot be written to.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            rows = _write(generator, part, with_truth)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path} must be writable. Got {error.strerror or error}.") from error
    return rows


def _write(generator: LoanGenerator, path: Path, with_truth: bool) -> int:
    rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for batch in loan_batches(generator, with_truth):
            if writer is None:
                writer = pq.ParquetWriter(path, batch.schema, compression="zstd")
            elif batch.schema != writer.schema:
                changed = sorted(set(batch.schema.names) ^ set(writer.schema.names))
                raise UsageError(
                    "faults must leave the columns of one file the same from start to end: give "
                    "missing and renamed no start, or write the time after to a file of its own. "
                    f"Got a change of {', '.join(changed)} after {rows:,} loans."
                )
            writer.write_batch(batch)
            rows += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows


def _record_batch(batch: LoanBatch, kinds: Mapping[str, str], with_truth: bool) -> pa.RecordBatch:
    arrays = {name: _array(column, kinds.get(name)) for name, column in batch.columns.items()}
    if with_truth:
        arrays[COLUMN_TRUTH] = pa.array(batch.probability)
    return pa.RecordBatch.from_pydict(arrays)


def _array(column: Column, kind: str | None) -> pa.Array:
    if isinstance(column, Categorical):
        codes = pa.array(column.codes, mask=column.codes < 0)
        return pa.DictionaryArray.from_arrays(codes, pa.array(column.values)).cast(pa.string())
    if column.dtype.kind == "M":
        return pa.array(column, type=pa.timestamp("us", tz="UTC"))
    if kind is None or column.dtype.kind != "f":
        return pa.array(column).cast(_TYPES.get(kind or "") or pa.array(column).type)
    numbers = np.asarray(column, dtype=np.float64)
    return pa.array(numbers, mask=np.isnan(numbers)).cast(_TYPES[kind])
