"""Rows for a replay: a file or table of history, or generated loans."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from heliotrope.adapters.loan_file import loan_batches
from heliotrope.domain.casting import typed_columns
from heliotrope.domain.replay import ReplayRow
from heliotrope.domain.statistics import require_columns
from heliotrope.domain.synthetic import LoanGenerator, LoanKnobs
from heliotrope.errors import DataFault, UsageError
from heliotrope.ports import SourceReader
from heliotrope.spec import ModelSpec, Source

BATCH_ROWS = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class History:
    """Rows in the order of their event times, and what is known of them beforehand."""

    count: int
    first: datetime
    """Event time of the first row, UTC."""
    last: datetime
    rows: Iterator[ReplayRow]


@contextmanager
def history_rows(
    reader: SourceReader,
    spec: ModelSpec,
    source: Source,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[History]:
    """Rows of a source with since <= event time < until; their order is kept where times tie.

    A value that cannot be read as its column's type counts as missing. Where the spec names no
    event time, rows are a second apart.

    Raises:
        NotFoundError: the source is not there.
        DataFault: it cannot be read, lacks a column, or has no row in that time.
        UnavailableError: an object store does not answer.
    """
    import ibis

    with reader.open(source) as table:
        require_columns(table.columns, spec, f"source {source.path}")
        chosen = {column.name: column.value for column in typed_columns(table, spec)}
        time = spec.event_time
        typed = table.select(**chosen, _row=ibis.row_number())
        if time is None:
            if since or until:
                raise UsageError("--from and --until need a spec with event_time. Got none.")
            typed, time = typed.mutate(_at=ibis.null("timestamp('UTC', 6)")), "_at"
        else:
            typed = typed.filter(typed[time].notnull())
            for moment, keep in ((since, typed[time].__ge__), (until, typed[time].__lt__)):
                if moment is not None:
                    typed = typed.filter(keep(ibis.literal(moment).cast("timestamp('UTC', 6)")))
        facts = typed.aggregate(rows=typed.count(), first=typed[time].min(), last=typed[time].max())
        found = facts.to_pyarrow().to_pylist()[0]
        if not found["rows"]:
            raise DataFault(f"source {source.path} must have rows in that time. It has none.")
        ordered = typed.order_by(time, "_row")
        batches = ordered.to_pyarrow_batches(chunk_size=BATCH_ROWS)
        first = found["first"] or _EPOCH
        last = found["last"] or _EPOCH + timedelta(seconds=found["rows"] - 1)
        yield History(found["rows"], _utc(first), _utc(last), _rows(batches, spec, time))


def generated_rows(
    knobs: LoanKnobs,
    spec: ModelSpec,
    since: datetime | None = None,
    until: datetime | None = None,
) -> History:
    """Generated loans; columns that the spec does not name are left out.

    Raises:
        UsageError: the spec names no event time, or none of the loans is in that time.
    """
    if spec.event_time is None:
        raise UsageError("A scenario needs a spec with event_time, since it is a story in time.")
    start = knobs.start.replace(tzinfo=UTC)
    each = timedelta(days=knobs.days) / knobs.rows
    # Each loan lies anywhere in its own slot of the period, so slots tell where to look.
    low = 0 if since is None else max(0, math.floor((since - start) / each))
    high = knobs.rows if until is None else min(knobs.rows, math.ceil((until - start) / each))
    if low >= high:
        raise UsageError(f"--from and --until must leave some of the {knobs.rows:,} loans.")
    batches = loan_batches(LoanGenerator(knobs), first=low, stop=high)
    rows = (
        row
        for row in _rows(batches, spec, spec.event_time)
        if (since is None or row.at >= since) and (until is None or row.at < until)
    )
    first, last = since or start, until or start + timedelta(days=knobs.days)
    return History(high - low, first, last, rows)


def _rows(batches: Any, spec: ModelSpec, time: str) -> Iterator[ReplayRow]:
    sent = [*spec.feature_names, *([spec.entity_key] if spec.entity_key else [])]
    number = 0
    for batch in batches:
        known = set(batch.schema.names)
        columns = [name for name in sent if name in known]
        cells = [batch.column(name).to_pylist() for name in columns]
        labels = _column(batch, spec.label.name)
        times = _column(batch, time)
        for values, label, at in zip(zip(*cells, strict=True), labels, times, strict=True):
            moment = _EPOCH + timedelta(seconds=number) if at is None else _utc(at)
            row = dict(zip(columns, values, strict=True))
            yield ReplayRow(number, moment, row, _json(label))
            number += 1


def _column(batch: Any, name: str) -> list[Any]:
    if name in batch.schema.names:
        values: list[Any] = batch.column(name).to_pylist()
        return values
    return [None] * batch.num_rows


def _json(label: Any) -> Any:
    return None if isinstance(label, float) and not math.isfinite(label) else label


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
