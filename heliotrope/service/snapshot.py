"""Take a snapshot: read the source, keep what is final, write one immutable version."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from heliotrope.domain.casting import TIME, TypedColumn, typed_columns
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.statistics import plain, require_columns
from heliotrope.errors import DataFault
from heliotrope.ports import SnapshotStore, SourceReader
from heliotrope.spec import ModelSpec
from heliotrope.spec.base import format_duration
from heliotrope.vocabulary import COLUMN_ROW

BATCH_ROWS = 65_536
_SOURCE_ROW = "_source_row"


def take_snapshot(
    spec: ModelSpec, reader: SourceReader, store: SnapshotStore, now: datetime
) -> SnapshotRef:
    """Write the source's mature, labelled rows as one version of the model's snapshot table.

    Rows are stored in order of event time, then entity key, then source order, and numbered so in
    `_row`. A row whose event time lies less than the label's delay before `now`, or after `now`,
    is immature: left out and counted. The same content as the newest version writes nothing.

    Args:
        spec: names the source, columns and label delay.
        reader: opens the source.
        store: keeps the snapshot.
        now: time maturity is judged at; a naive time is taken as UTC.

    Raises:
        NotFoundError: the source is not there.
        DataFault: it is empty, lacks a column, holds a value that cannot be read as its type, has
            a row without event time, or no row is left.
        UnavailableError: an object store does not answer.
        ConflictError: another snapshot was written at the same time.
    """
    at = now.astimezone(UTC) if now.tzinfo else now.replace(tzinfo=UTC)
    with reader.open(spec.source) as source:
        require_columns(source.columns, spec, f"source {spec.source.path}")
        columns = typed_columns(source, spec)
        typed = _typed(source, columns)
        facts = _facts(typed, spec, columns, at)
        _require_readable(typed, spec, columns, facts, reader)
        _require_rows(spec, facts, at)
        kept = _kept(typed, spec, at)
        schema = _schema(kept, columns)
        about = SnapshotRef(
            model=spec.name,
            table="",
            version=0,
            content_hash="",
            rows=facts["rows"] - facts["immature"] - facts["unlabelled"],
            immature_rows=facts["immature"],
            unlabelled_rows=facts["unlabelled"],
            taken_at=at,
            event_from=_utc(facts.get("event_from")),
            event_to=_utc(facts.get("event_to")),
            source=spec.source.path,
            columns=tuple(column.name for column in columns),
        )
        return store.write(spec.name, _numbered(kept, schema), schema, about)


def _typed(source: Any, columns: list[TypedColumn]) -> Any:
    import ibis

    chosen = {column.name: column.value for column in columns}
    faults = {f"_bad_{index}": column.unreadable for index, column in enumerate(columns)}
    return source.select(**chosen, **faults, **{_SOURCE_ROW: ibis.row_number()})


def _immature(table: Any, spec: ModelSpec, at: datetime) -> Any:
    import ibis

    if spec.event_time is None:
        return ibis.literal(False)
    final_before = ibis.literal(at - spec.label.delay).cast("timestamp('UTC', 6)")
    return (table[spec.event_time] > final_before).fill_null(False)


def _facts(typed: Any, spec: ModelSpec, columns: list[TypedColumn], at: datetime) -> dict[str, Any]:
    immature = _immature(typed, spec, at)
    unlabelled = ~immature & _unlabelled(typed, spec)
    metrics = {
        "rows": typed.count(),
        "immature": immature.sum(),
        "unlabelled": unlabelled.sum(),
    }
    metrics |= {f"_bad_{i}": typed[f"_bad_{i}"].sum() for i in range(len(columns))}
    if spec.event_time is not None:
        time = typed[spec.event_time]
        metrics["timeless"] = time.isnull().sum()
        metrics["oldest"] = time.min()
        metrics["event_from"] = time.min(where=~immature & ~unlabelled)
        metrics["event_to"] = time.max(where=~immature & ~unlabelled)
    found = typed.aggregate(**metrics).to_pyarrow().to_pylist()[0]
    times = ("event_from", "event_to", "oldest")
    return {k: v if k in times else int(v or 0) for k, v in found.items()}


def _unlabelled(typed: Any, spec: ModelSpec) -> Any:
    label = typed[spec.label.name]
    return label.isnull()


def _require_readable(
    typed: Any,
    spec: ModelSpec,
    columns: list[TypedColumn],
    facts: dict[str, Any],
    reader: SourceReader,
) -> None:
    faults = [
        _unreadable(typed, spec, column, index, facts[f"_bad_{index}"], reader)
        for index, column in enumerate(columns)
        if facts[f"_bad_{index}"]
    ]
    if faults:
        raise DataFault("\n".join(faults))
    if facts.get("timeless"):
        where = _first_place(typed, spec, typed[spec.event_time].isnull(), reader)
        raise DataFault(
            f"{TIME} {spec.event_time} must be given on every row. "
            f"{facts['timeless']:,} of {facts['rows']:,} rows have none, the first at {where}."
        )


def _unreadable(
    typed: Any,
    spec: ModelSpec,
    column: TypedColumn,
    index: int,
    count: int,
    reader: SourceReader,
) -> str:
    bad = typed.filter(typed[f"_bad_{index}"]).select(_SOURCE_ROW).order_by(_SOURCE_ROW).limit(1)
    row = int(bad.to_pyarrow().to_pylist()[0][_SOURCE_ROW])
    with reader.open(spec.source) as source:
        import ibis

        raw = source.select(source[column.name], **{_SOURCE_ROW: ibis.row_number()})
        value = raw.filter(raw[_SOURCE_ROW] == row).to_pyarrow().to_pylist()[0][column.name]
    more = f", and {count - 1:,} more like it" if count > 1 else ""
    return (
        f"{column.role} {column.name} must {column.must} on every row. "
        f"Got {plain(value)!r} at {reader.locate(spec.source, row)}{more}."
    )


def _first_place(typed: Any, spec: ModelSpec, where: Any, reader: SourceReader) -> str:
    first = typed.filter(where).aggregate(row=typed[_SOURCE_ROW].min())
    return reader.locate(spec.source, int(first.to_pyarrow().to_pylist()[0]["row"]))


def _require_rows(spec: ModelSpec, facts: dict[str, Any], at: datetime) -> None:
    rows, immature, unlabelled = facts["rows"], facts["immature"], facts["unlabelled"]
    if immature == rows:
        raise DataFault(
            f"label {spec.label.name} must be final on some rows: event time at or before "
            f"{at - spec.label.delay:%Y-%m-%d %H:%M} UTC, which is label.delay "
            f"({format_duration(spec.label.delay)}) before now. All {rows:,} rows are younger; "
            f"the oldest is of {facts['oldest']:%Y-%m-%d %H:%M} UTC."
        )
    if immature + unlabelled == rows:
        raise DataFault(
            f"label {spec.label.name} must be given on some mature rows. "
            f"All {unlabelled:,} mature rows of {rows:,} have none."
        )


def _kept(typed: Any, spec: ModelSpec, at: datetime) -> Any:
    chosen = typed.filter(~_immature(typed, spec, at) & ~_unlabelled(typed, spec))
    order = [name for name in (spec.event_time, spec.entity_key) if name is not None]
    if order:
        chosen = chosen.order_by(*order, _SOURCE_ROW)
    return chosen.drop(_SOURCE_ROW, *[c for c in typed.columns if c.startswith("_bad_")])


def _schema(kept: Any, columns: list[TypedColumn]) -> Any:
    import pyarrow as pa

    stored = kept.schema().to_pyarrow()
    fields = [pa.field(column.name, stored.field(column.name).type) for column in columns]
    return pa.schema([pa.field(COLUMN_ROW, pa.int64()), *fields])


def _numbered(kept: Any, schema: Any) -> Iterator[Any]:
    import numpy as np
    import pyarrow as pa

    start = 0
    for batch in kept.to_pyarrow_batches(chunk_size=BATCH_ROWS):
        rows = pa.array(np.arange(start, start + batch.num_rows))
        stored = [
            batch.column(field.name).cast(field.type)
            for field in schema
            if field.name != COLUMN_ROW
        ]
        start += batch.num_rows
        yield pa.RecordBatch.from_arrays([rows, *stored], schema=schema)


def _utc(value: Any) -> datetime | None:
    if value is None:
        return None
    moment: datetime = value
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
