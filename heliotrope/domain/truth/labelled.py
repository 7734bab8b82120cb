"""Ibis expression of what the log can teach: answered rows as they were seen, with their labels."""

from typing import Any

import ibis

from heliotrope.domain.events import FEATURE_PREFIX, LABEL_COLUMNS, PREDICTION_COLUMNS
from heliotrope.domain.truth.matching import matched
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.domain.truth.rows import (
    PREDICTION_KEY,
    Micros,
    first_of,
    label_rows,
    prediction_rows,
    with_columns,
)
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Role, Task

LIVE = (Role.CHAMPION.value, Role.CANARY.value)
"""Roles that answer somebody; a shadow's row says nothing that the champion's does not."""


def labelled_features(predictions: Any, labels: Any, spec: ModelSpec, micros: Micros) -> Any:
    """Labelled predictions as rows of the spec's source: features, label, key and event time.

    A row's event time is when it was predicted, and its features are those the model was given, so
    training sees what serving saw. A request that was asked twice under one id teaches once.

    Args:
        predictions: `predictions/<model>`, raw.
        labels: `labels/<model>`, raw.
        spec: of the model.
        micros: the engine's.

    Returns:
        Columns named as in the spec, ordered by time and id; the label is its class's name, or the
        number.
    """
    plan = TruthPlan.of(spec)
    columns = [FEATURE_PREFIX + name for name in spec.feature_names]
    raw = with_columns(predictions, PREDICTION_COLUMNS, columns)
    live = raw.filter(raw.role.isin(LIVE) & raw.prediction_id.notnull())
    clean = prediction_rows(live, plan, micros).mutate(sign=1)
    told = label_rows(with_columns(labels, LABEL_COLUMNS), plan, micros).mutate(sign=1)
    known = matched(clean, told)
    taught = first_of(known.filter(known.value.notnull()), ("prediction_id",), ("at", "version"))
    seen = first_of(live, PREDICTION_KEY, ("predicted_at", "spool_id", "spool_sequence"))
    rows = taught.select(*PREDICTION_KEY, "at", "value").join(
        seen.select(*PREDICTION_KEY, "entity_key", "predicted_at", *columns), PREDICTION_KEY
    )
    named = {name: rows[FEATURE_PREFIX + name] for name in spec.feature_names}
    named[spec.label.name] = _label(rows.value, spec, plan)
    if spec.entity_key is not None:
        named[spec.entity_key] = rows.entity_key
    if spec.event_time is not None:
        named[spec.event_time] = rows.predicted_at
    return rows.order_by("at", "prediction_id").select(**named)


def _label(value: Any, spec: ModelSpec, plan: TruthPlan) -> Any:
    if plan.task is Task.REGRESSION:
        return value
    names, positive = list(plan.classes), spec.label.positive
    if plan.other_is_negative and isinstance(positive, int):
        # The other class has no name, and the column holds numbers.
        names[0] = "0" if positive else "1"
    place = value.cast("int32")
    told = [(place == index, name) for index, name in enumerate(names)]
    return ibis.cases(*told, else_=ibis.null("string"))
