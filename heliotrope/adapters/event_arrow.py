"""Events as Arrow tables: the columns of `domain.events`, from numpy without a loop over rows."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from heliotrope.domain.events import (
    FEATURE_PREFIX,
    LABEL_COLUMNS,
    LOSS_COLUMNS,
    PREDICTION_COLUMNS,
    TYPED_FEATURE_SEPARATOR,
)
from heliotrope.domain.labels import LabelUpload
from heliotrope.domain.spool_batch import Loss, SpoolBatch
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import Role, Task

_DAY_US = 86_400_000_000
_TYPES = {
    "string": pa.string(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "list<float64>": pa.list_(pa.float64()),
    "timestamp[us, UTC]": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
}
_FEATURE_TYPES = {
    FeatureType.FLOAT: pa.float32(),
    FeatureType.INTEGER: pa.int64(),
    FeatureType.CATEGORY: pa.string(),
    FeatureType.BOOLEAN: pa.bool_(),
}


def schema_of(columns: Mapping[str, str]) -> Any:
    """The Arrow schema of a table of `domain.events`."""
    return pa.schema([pa.field(name, _TYPES[kind]) for name, kind in columns.items()])


PREDICTIONS = schema_of(PREDICTION_COLUMNS)
LABELS = schema_of(LABEL_COLUMNS)
LOSSES = schema_of(LOSS_COLUMNS)


def predictions_table(batch: SpoolBatch, received_at_us: int, existing: Mapping[str, Any]) -> Any:
    """A batch as rows of `predictions/<model>`.

    Args:
        batch: the records to write.
        received_at_us: microseconds since 1970.
        existing: types of the columns the table has.
    """
    header, rows = batch.header, batch.total_rows
    single = rows == len(batch.sequences)

    def per_row(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values if single else np.repeat(values, batch.rows)

    requests = pa.array(batch.request_ids, pa.string())
    if not single:
        requests = requests.take(pa.array(np.repeat(np.arange(len(requests)), batch.rows)))
    at = per_row(batch.predicted_at_us)
    starts = np.cumsum(batch.rows) - batch.rows
    score, scores, prediction = _answers(batch)
    columns = {
        "prediction_id": pa.array(batch.prediction_ids(), pa.string()),
        "request_id": requests,
        "row": pa.array((np.arange(rows) - per_row(starts)).astype(np.int32)),
        "version": _constant(header.version, rows),
        "role": _roles(header.role, per_row(batch.replayed)),
        "predicted_at": _moments(at),
        "received_at": _moments(np.full(rows, received_at_us)),
        "entity_key": pa.array(batch.entity_keys, pa.string())
        if batch.entity_keys is not None
        else pa.nulls(rows, pa.string()),
        "prediction": prediction,
        "score": score,
        "scores": scores,
        "latency_us": pa.array(per_row(batch.latency_us)),
        "spool_id": _constant(header.spool, rows),
        "spool_sequence": pa.array(per_row(batch.sequences)),
        "day": pa.array((at // _DAY_US).astype(np.int32)).cast(pa.date32()),
    }
    for position, feature in enumerate(header.features):
        name = feature_column(feature, existing)
        columns[name] = _feature(feature, batch.features[:, position])
    return pa.table(columns)


def _roles(role: Role, replayed: npt.NDArray[np.bool_]) -> Any:
    """What a version answered of the log it answered as a shadow, whatever it is to users."""
    if not replayed.any():
        return _constant(str(role), len(replayed))
    return pc.if_else(pa.array(replayed), str(Role.SHADOW), str(role))


def feature_column(feature: Feature, existing: Mapping[str, Any]) -> str:
    """The feature's column: `f_<name>`, or `f_<name>@<type>` where that has another type."""
    name = FEATURE_PREFIX + feature.name
    held = existing.get(name)
    if held is None or held == _FEATURE_TYPES[feature.type]:
        return name
    return f"{name}{TYPED_FEATURE_SEPARATOR}{feature.type}"


def labels_table(uploads: Sequence[LabelUpload], received_at_us: Sequence[int]) -> Any:
    """Uploads as rows of `labels/<model>`; one table of all, since most hold a single label.

    `received_at` rises by a microsecond a row, so that "the last received" is always one of them.
    """
    rows = [upload.rows for upload in uploads]
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    starts = np.cumsum(counts) - counts
    within = np.arange(counts.sum()) - np.repeat(starts, counts)
    received = np.repeat(np.array(received_at_us, np.int64), counts) + within
    batches = pa.array([upload.batch_id for upload in uploads], pa.string())
    happened = pa.array(list(chain.from_iterable(r.happened_at_us for r in rows)), pa.int64())

    def text(lists: Iterable[Iterable[str | None]]) -> Any:
        return pa.array(list(chain.from_iterable(lists)), pa.string())

    return pa.table(
        {
            "label_id": text(upload.label_ids() for upload in uploads),
            "prediction_id": text(r.prediction_ids for r in rows),
            "entity_key": text(r.entity_keys for r in rows),
            "label": text(r.labels for r in rows),
            "happened_at": happened.cast(pa.timestamp("us", tz="UTC")),
            "received_at": _moments(received),
            "batch_id": batches.take(pa.array(np.repeat(np.arange(len(rows)), counts))),
            "day": pa.array((received // _DAY_US).astype(np.int32)).cast(pa.date32()),
        }
    )


def losses_table(losses: Sequence[Loss], noted_at_us: int) -> Any:
    """Gaps as rows of `losses/<model>`."""
    day = date.fromordinal(date(1970, 1, 1).toordinal() + noted_at_us // _DAY_US)
    rows = [
        {
            "spool_id": loss.spool_id,
            "version": loss.version,
            "role": loss.role,
            "first_sequence": loss.first_sequence,
            "last_sequence": loss.last_sequence,
            "records": loss.last_sequence - loss.first_sequence + 1,
            "reason": loss.reason,
            "noted_at": noted_at_us,
            "day": day,
        }
        for loss in losses
    ]
    return pa.Table.from_pylist(rows, LOSSES)


def fitted(table: Any, schema: Any) -> Any:
    """The table with a schema's columns in its order; what it lacks is null."""
    missing = [field for field in schema if field.name not in table.column_names]
    for field in missing:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names).cast(schema)


def concatenated(tables: Sequence[Any]) -> Any:
    """One table of many, whose columns may differ."""
    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="default")


def _answers(batch: SpoolBatch) -> tuple[Any, Any, Any]:
    """Columns score, scores, prediction."""
    header, values = batch.header, batch.scores
    none = pa.nulls(batch.total_rows, pa.list_(pa.float64()))
    if batch.predictions is None:
        return pa.array(values.astype(np.float64)), none, pa.array(values).cast(pa.string())
    chosen = batch.predictions.astype(np.int64)
    names = pa.array(header.classes, pa.string()).take(pa.array(chosen))
    if header.task is Task.BINARY:
        return pa.array(values.astype(np.float64)), none, names
    offsets = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    scores = pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(values.reshape(-1).astype(np.float64))
    )
    return pa.array(values[np.arange(len(values)), chosen].astype(np.float64)), scores, names


def _feature(feature: Feature, numbers: npt.NDArray[np.float32]) -> Any:
    numbers = np.ascontiguousarray(numbers)
    missing = np.isnan(numbers)
    mask = missing if missing.any() else None
    if feature.type is FeatureType.FLOAT:
        return pa.array(numbers, pa.float32(), mask=mask)
    whole = np.where(missing, 0, numbers).astype(np.int64)
    if feature.type is FeatureType.INTEGER:
        return pa.array(whole, pa.int64(), mask=mask)
    if feature.type is FeatureType.BOOLEAN:
        return pa.array(whole != 0, pa.bool_(), mask=mask)
    names = pa.array(feature.categories or (), pa.string())
    return names.take(pa.array(whole, pa.int64(), mask=mask))


def _moments(microseconds: npt.NDArray[np.int64]) -> Any:
    return pa.array(microseconds.astype(np.int64)).cast(pa.timestamp("us", tz="UTC"))


def _constant(text: str, rows: int) -> Any:
    return pa.repeat(pa.scalar(text, pa.string()), rows)
