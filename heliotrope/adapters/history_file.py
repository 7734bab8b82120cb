"""A backtest's history from a file or table of labelled rows, or from the platform's own log."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from heliotrope.adapters.outcome_arrays import feature_types
from heliotrope.domain.backtest.history import FROM_LOG, History, moment
from heliotrope.domain.casting import TypedColumn, typed_columns
from heliotrope.domain.checks.label import label_values
from heliotrope.domain.drift.window import matrix_of, window_of_table
from heliotrope.domain.quality import Level
from heliotrope.domain.statistics import (
    label_code,
    label_rules,
    require_columns,
    rules,
    value_counts,
)
from heliotrope.errors import DataFault, UsageError
from heliotrope.ports import SourceReader
from heliotrope.ports.outcomes import OutcomeReader
from heliotrope.spec import ModelSpec, Source
from heliotrope.vocabulary import Role, Task

_EVER = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
_ROW, _AT, _LABEL, _FINE, _BAD = "_row", "_at", "_code", "_fine", "_bad"


def read_history(reader: SourceReader, spec: ModelSpec, source: Source) -> History:
    """Rows of a source in the order in which they stand, which must be that of time.

    Rows that a predictor would refuse are left out and counted; a row without a label, or with one
    beyond `label.min` or `label.max`, is answered and never judged. Labels come `label.delay` after
    their rows.

    Raises:
        NotFoundError: nothing is there.
        DataFault: it cannot be read, lacks a column, holds no label, a label of no class or of one
            class only, or a value of another kind, or its rows are not in the order of time.
        UsageError: the spec names no event time.
    """
    where = f"history {source.path}"
    _require_time(spec)
    with reader.open(source) as table:
        require_columns(table.columns, spec, where)
        columns = typed_columns(table, spec)
        found = _rows(table, spec, columns)
        _require_readable(found, columns, where)
        _require_classes(table, spec, columns, where)
    return _history(spec, found, where)


def logged_history(reader: SourceReader, outcomes: OutcomeReader, spec: ModelSpec) -> History:
    """What the platform answered, as its labels came; before it, the rows of the spec's source.

    All of it is read, whatever this process' clock says: the platform's may be a simulated one that
    is ahead of it.

    Raises:
        DataFault: nothing was logged, or no label came.
        UnavailableError: the store does not answer.
        NotFoundError: the spec's source is not there.
    """
    _require_time(spec)
    found = outcomes.window(spec, *_EVER)
    live = found.role != str(Role.SHADOW)
    _, first = np.unique(found.prediction_id[live].astype(str), return_index=True)
    rows = np.flatnonzero(live)[np.sort(first)]
    if not len(rows):
        raise DataFault(f"the log of {spec.name} must hold predictions. It holds none.")
    table = found.features.take(rows)
    at = found.predicted_at[rows]
    matrix = matrix_of(spec.features, window_of_table(spec.features, table))
    logged = History(
        at, found.label[rows], found.label_received_at[rows], matrix, table,
        f"the log of {spec.name}", FROM_LOG,
    )  # fmt: skip
    before = read_history(reader, spec, spec.source.model_copy(update={"predictions": False}))
    earlier = int(np.searchsorted(before.at, at[0], "left"))
    return _checked(_joined(before, earlier, logged))


def _require_time(spec: ModelSpec) -> None:
    if spec.event_time is None:
        raise UsageError("event_time must be set in the spec: a backtest plays rows in time. "
                         "Got None.")  # fmt: skip


def _rows(table: Any, spec: ModelSpec, columns: list[TypedColumn]) -> pa.Table:
    import ibis

    chosen = {column.name: column.value for column in columns}
    bad = {f"{_BAD}{place}": column.unreadable for place, column in enumerate(columns)}
    typed = table.select(**chosen, **bad, **{_ROW: ibis.row_number()})
    fine = None
    for feature in spec.features:
        for broken in rules(typed, feature).values():
            fine = ~broken if fine is None else fine & ~broken
    label = label_code(typed, spec)
    outside = label_rules(typed, spec).get("label_out_of_bounds")
    if outside is not None:
        label = outside.ifelse(ibis.null(label.type()), label)
    marked = typed.mutate(**{_FINE: ibis.literal(True) if fine is None else fine, _LABEL: label})
    kept = marked.select(
        *spec.feature_names, _FINE, _ROW, *bad,
        **{_AT: marked[str(spec.event_time)].cast("timestamp('UTC', 6)"),
           _LABEL: marked[_LABEL].cast("float64")},
    )  # fmt: skip
    return kept.order_by(_ROW).to_pyarrow()


def _require_readable(found: pa.Table, columns: list[TypedColumn], where: str) -> None:
    for place, column in enumerate(columns):
        bad = np.asarray(found.column(f"{_BAD}{place}").to_numpy(zero_copy_only=False), bool)
        if bad.any():
            raise DataFault(
                f"column {column.name} of {where} must {column.must} on every row. "
                f"{int(bad.sum()):,} of {len(bad):,} rows are not, the first is row "
                f"{int(np.argmax(bad)) + 1:,}."
            )


def _require_classes(table: Any, spec: ModelSpec, columns: list[TypedColumn], where: str) -> None:
    """What no training would accept is named before anything is played."""
    name = spec.label.name
    stored = next(column.value for column in columns if column.name == name)
    told = table.select(**{name: stored}).filter(lambda row: row[name].notnull())
    values = [] if spec.task is Task.REGRESSION else value_counts(told, name)
    unknown = int(
        told.filter(label_rules(told, spec)["label_unknown"]).count().to_pyarrow().as_py()
    )
    findings = label_values(spec, values, unknown, ())
    fatal = [one.message for one in findings if one.level is Level.FATAL]
    if fatal:
        raise DataFault(f"{where}: {' '.join(fatal)}")


def _history(spec: ModelSpec, found: pa.Table, where: str) -> History:
    if found.num_rows == 0:
        raise DataFault(f"{where} must have rows. It has none.")
    at = found.column(_AT).cast(pa.timestamp("us")).to_numpy()
    lost = np.isnat(at)
    if lost.any():
        raise DataFault(
            f"event time {spec.event_time} of {where} must be given on every row. "
            f"{int(lost.sum()):,} of {len(at):,} rows have none."
        )
    label = found.column(_LABEL).to_numpy(zero_copy_only=False).astype(np.float64)
    fine = np.asarray(found.column(_FINE).to_numpy(zero_copy_only=False), bool)
    types = feature_types(spec)
    table = pa.table(
        {name: found.column(name).cast(types[name]) for name in spec.feature_names}
    ).filter(pa.array(fine)).combine_chunks()  # fmt: skip
    matrix = matrix_of(spec.features, window_of_table(spec.features, table))
    told = at + np.timedelta64(round(spec.label.delay.total_seconds() * 1e6), "us")
    told = np.where(np.isnan(label), np.datetime64("NaT", "us"), told)
    _require_order(at, spec, where)
    return _checked(
        History(at[fine], label[fine], told[fine], matrix, table, where, refused=int((~fine).sum()))
    )


def _require_order(at: Any, spec: ModelSpec, where: str) -> None:
    falls = np.flatnonzero(at[1:] < at[:-1])
    if len(falls):
        row = int(falls[0]) + 1
        raise DataFault(
            f"{where} must be in the order of {spec.event_time}, oldest first. Row {row + 1:,} is "
            f"of {at[row]}, after one of {at[row - 1]}."
        )


def _checked(history: History) -> History:
    if not len(history):
        raise DataFault(
            f"{history.source} must have rows that a predictor takes. "
            f"All {history.refused:,} break a rule of the spec."
        )
    if np.isnan(history.label).all():
        raise DataFault(
            f"{history.source} must have labels. None of its {len(history):,} rows has."
        )
    return history


def _joined(before: History, rows: int, logged: History) -> History:
    if rows == 0:
        return logged
    first = slice(0, rows)
    return History(
        np.concatenate([before.at[first], logged.at]),
        np.concatenate([before.label[first], logged.label]),
        np.concatenate([before.told[first], logged.told]),
        np.concatenate([before.matrix[first], logged.matrix]),
        pa.concat_tables([before.table.slice(0, rows), logged.table]).combine_chunks(),
        f"{logged.source}, after {before.source}",
        FROM_LOG,
        before.refused,
        moment(logged.at[0]),
    )
