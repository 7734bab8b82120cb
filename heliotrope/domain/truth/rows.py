"""Ibis expressions from the raw event tables to clean rows: typed, bounded, each event once.

The same expressions run on DuckDB and on Spark. Only exactly rounded arithmetic decides which bin
or slice a row falls into, so both engines put every row into the same one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import ibis
from ibis import _

from heliotrope.domain.events import LABEL_COLUMNS, PREDICTION_COLUMNS
from heliotrope.domain.truth.plan import MISSING, SliceAxis, TruthPlan
from heliotrope.spec import FeatureType
from heliotrope.vocabulary import Task

Micros = Callable[[Any], Any]
"""Turns a timestamp column into microseconds since 1970; engines spell it differently."""

BY_ID = "p"
BY_ENTITY = "e"
PREDICTION_KEY = ("prediction_id", "version", "role")
"""What makes a prediction one. A shadow answers a logged request again, under the same id."""
LABEL_KEY = ("kind", "target", "label_id")
BIGGEST = 1e15
"""Largest magnitude of a regression label or value; beyond it, and where it is not finite, a row
cannot be judged."""


def prediction_rows(raw: Any, plan: TruthPlan, micros: Micros, carried: Sequence[str] = ()) -> Any:
    """One row a prediction: key, `at` (microseconds), `entity`, `called`, `score`, slice codes.

    `score` is null where it is missing, not finite or no probability: the row counts as predicted
    and can never count as labelled. Of several rows of one key the earliest is kept, ties broken
    by content, so the choice does not depend on the order of arrival.

    Args:
        raw: `predictions/<model>`, any part of it; columns that old files lack count as missing.
        plan: of the model.
        micros: the engine's.
        carried: columns of the raw rows to keep as they are.
    """
    raw = with_columns(raw, PREDICTION_COLUMNS, [axis.column for axis in plan.axes])
    named = raw.filter(raw.prediction_id.notnull() & raw.predicted_at.notnull())
    at = micros(named.predicted_at)
    scores = {
        name: _probability(named.scores[place]) for place, name in enumerate(plan.score_columns)
    }
    rows = named.select(
        prediction_id=named.prediction_id,
        version=named.version.fill_null(""),
        role=named.role.fill_null(""),
        at=at,
        entity=named.entity_key,
        called=_called(named, plan),
        score=_score(named, plan),
        **scores,
        **{
            column: _slice_code(named[axis.column], axis)
            for column, axis in zip(plan.slice_columns, plan.axes, strict=True)
        },
        **{name: named[name] for name in carried},
    )
    missing = [rows[name].isnull() for name in plan.score_columns]
    if missing:
        unusable = ibis.or_(rows.called < 0, *missing)
        rows = rows.mutate(score=ibis.ifelse(unusable, ibis.null("float64"), rows.score))
    return first_of(rows, PREDICTION_KEY, PREDICTION_ORDER)


PREDICTION_ORDER = ("at", "score", "called", "entity")
"""The least of these is the prediction that counts, of several with one key; nulls come last."""
LABEL_ORDER = ("received", "until", "value")


def label_rows(raw: Any, plan: TruthPlan, micros: Micros) -> Any:
    """One row a label: `kind` and `target`, `label_id`, `value`, `until`, `received`.

    `value` is the class's place, or the number. `until` is when what it tells happened: a label by
    entity key belongs to predictions up to then. Labels that name no class, or no number, are left
    out (`unusable_labels` counts them). A label that was sent again keeps the time it was first
    received, so that sending an old file again undoes no correction.

    Args:
        raw: `labels/<model>`, any part of it.
        plan: of the model.
        micros: the engine's.
    """
    raw = with_columns(raw, LABEL_COLUMNS)
    received = micros(raw.received_at)
    text = raw.label
    named = raw.select(
        kind=ibis.ifelse(raw.prediction_id.notnull(), BY_ID, BY_ENTITY),
        target=ibis.coalesce(raw.prediction_id, raw.entity_key),
        label_id=raw.label_id.fill_null(received.cast("string") + "/" + text.fill_null("")),
        value=_label_value(text, plan),
        until=ibis.coalesce(micros(raw.happened_at), received),
        received=received,
    )
    usable = named.filter(named.value.notnull() & named.target.notnull() & named.received.notnull())
    return first_of(usable, LABEL_KEY, LABEL_ORDER)


def unusable_labels(raw: Any, plan: TruthPlan) -> Any:
    """How many label rows name no class, no number, no target or no time (a scalar)."""
    raw = with_columns(raw, LABEL_COLUMNS)
    bad = (
        _label_value(raw.label, plan).isnull()
        | raw.received_at.isnull()
        | (raw.prediction_id.isnull() & raw.entity_key.isnull())
    )
    return bad.sum().fill_null(0)


def first_of(rows: Any, key: Sequence[str], order: Sequence[str]) -> Any:
    """The least row of each key; nulls last."""
    by = [rows[name].asc(nulls_first=False) for name in order]
    place = ibis.row_number().over(group_by=list(key), order_by=by)
    return rows.mutate(_place=place).filter(_._place == 0).drop("_place")


def with_columns(raw: Any, types: dict[str, str], features: Sequence[str] = ()) -> Any:
    """The table with a null column for each of these that it lacks."""
    lacking = {
        name: ibis.null(_ibis_type(kind)) for name, kind in types.items() if name not in raw.columns
    }
    lacking |= {name: ibis.null("float64") for name in features if name not in raw.columns}
    return raw.mutate(**lacking) if lacking else raw


def _ibis_type(kind: str) -> str:
    if kind.startswith("timestamp"):
        return "timestamp('UTC')"
    return kind.replace("list<", "array<")


def _finite(column: Any) -> Any:
    number = column.cast("float64")
    bad = number.isnan() | (number.abs() > BIGGEST)
    return ibis.ifelse(bad, ibis.null("float64"), number)


def _probability(column: Any) -> Any:
    number = column.cast("float64")
    bad = number.isnan() | (number < 0) | (number > 1)
    return ibis.ifelse(bad, ibis.null("float64"), number)


def _score(raw: Any, plan: TruthPlan) -> Any:
    return _finite(raw.score) if plan.task is Task.REGRESSION else _probability(raw.score)


def _called(raw: Any, plan: TruthPlan) -> Any:
    if plan.task is Task.REGRESSION:
        return ibis.literal(0, "int32")
    place = ibis.cases(
        *((raw.prediction == name, index) for index, name in enumerate(plan.classes)), else_=-1
    )
    if plan.task is Task.BINARY:
        by_score = ibis.ifelse(_probability(raw.score) >= plan.threshold, 1, 0)
        place = ibis.ifelse(
            raw.prediction.isnull(), by_score, ibis.ifelse(raw.prediction == plan.classes[1], 1, 0)
        )
    return place.fill_null(-1).cast("int32")


def _label_value(text: Any, plan: TruthPlan) -> Any:
    if plan.task is Task.REGRESSION:
        return _finite(text.try_cast("float64"))
    # Whole numbers, cast: DuckDB reads 1.0 as a decimal, and Ibis takes it for a float already.
    named = [(text == name, index) for index, name in enumerate(plan.classes)]
    if plan.other_is_negative:
        return ibis.cases((text.isnull(), None), named[1], else_=0).cast("float64")
    if plan.task is Task.BINARY:
        # What the negative class was called before the spec named it.
        named.append((text == f"not {plan.classes[1]}", 0))
    return ibis.cases(*named, else_=None).cast("float64")


def _slice_code(column: Any, axis: SliceAxis) -> Any:
    if axis.type is FeatureType.CATEGORY:
        text = column.cast("string")
        code = ibis.cases(
            *((text == name, index) for index, name in enumerate(axis.categories)), else_=MISSING
        )
    elif axis.type is FeatureType.BOOLEAN:
        code = column.cast("boolean").cast("int32")
    else:
        number = column.cast("float64")
        code = ibis.cases(
            (number.isnull() | number.isnan(), MISSING),
            *((number < edge, index) for index, edge in enumerate(axis.edges)),
            else_=len(axis.edges),
        )
    return code.fill_null(MISSING).cast("int32")
