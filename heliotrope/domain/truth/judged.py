"""Ibis expressions of windows of predictions and the labels that are theirs.

The same rules as the truth's, for a part of the tables: which prediction of several counts
(`rows.prediction_rows`), and which label is its (`matching.matched`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import ibis

from heliotrope.domain.events import LABEL_COLUMNS, PREDICTION_COLUMNS
from heliotrope.domain.truth.matching import matched
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.domain.truth.rows import (
    BY_ENTITY,
    PREDICTION_KEY,
    Micros,
    first_of,
    label_rows,
    prediction_rows,
    with_columns,
)

_ROLES = ("champion", "canary", "shadow")


@dataclass(frozen=True)
class Wanted:
    """Which predictions."""

    since: datetime
    until: datetime | None
    """None reads to the newest."""
    version: str | None = None
    role: str | None = None


def wanted_rows(raw: Any, wanted: Wanted) -> Any:
    """The raw predictions of a window."""
    raw = with_columns(raw, PREDICTION_COLUMNS)
    parts = [raw.prediction_id.notnull(), raw.predicted_at >= _moment(wanted.since)]
    if wanted.until is not None:
        parts.append(raw.predicted_at < _moment(wanted.until))
    if wanted.version is not None:
        parts.append(raw.version == wanted.version)
    if wanted.role is not None:
        parts.append(raw.role == wanted.role)
    return raw.filter(*parts)


def clean_rows(raw: Any, plan: TruthPlan, micros: Micros, columns: Sequence[str] = ()) -> Any:
    """Each prediction once, with `sign` 1; `columns` of the raw rows are carried along."""
    return prediction_rows(raw, plan, micros, columns).mutate(sign=1)


def labels_of(
    raw: Any,
    known: Any,
    plan: TruthPlan,
    micros: Micros,
    since: datetime,
    known_by: datetime | None,
) -> Any:
    """The clean labels, with `sign` 1, that can be those of clean predictions.

    Args:
        raw: `labels/<model>`, any part of it.
        known: the predictions.
        plan: of the model.
        micros: the engine's.
        since: leaves out labels received before.
        known_by: leaves out labels received after.
    """
    raw = with_columns(raw, LABEL_COLUMNS)
    raw = raw.filter(raw.received_at >= _moment(since))
    if known_by is not None:
        raw = raw.filter(raw.received_at <= _moment(known_by))
    ids = known.select("prediction_id").distinct()
    entities = known.filter(known.entity.notnull()).select("entity").distinct()
    by_id = raw.semi_join(ids, raw.prediction_id == ids.prediction_id)
    unnamed = raw.filter(raw.prediction_id.isnull())
    by_entity = unnamed.semi_join(entities, unnamed.entity_key == entities.entity)
    return label_rows(by_id.union(by_entity), plan, micros).mutate(sign=1)


def has_entities(labels: Any) -> Any:
    """Whether any of clean labels is by entity key (a scalar)."""
    return (labels.kind == BY_ENTITY).any()


def with_labels(known: Any, labels: Any, entities: bool) -> Any:
    """Clean predictions with `value` and `told`, when the label was received, null without one.

    A label that was there before its prediction was told with it.
    """
    rows = matched(known, labels, entities)
    return rows.mutate(told=rows["at"] + rows.delay).drop("delay", "sign")


def ordered(rows: Any, labelled: bool, limit: int | None) -> Any:
    """Rows in order of time, then key; the first so many."""
    if labelled:
        rows = rows.filter(rows.value.notnull())
    rows = rows.order_by(["at", *PREDICTION_KEY])
    return rows if limit is None else rows.limit(limit)


def paired(champion: Any, candidate: Any) -> Any:
    """Clean rows of one version beside those of another, under the same id.

    A version that answered an id in several roles is taken as the champion first, then as canary.
    The columns of the candidate begin with `other_`. Where it cannot be judged, neither can the
    pair, so `score` is null then.
    """
    mine, other = _one_role(champion), _one_role(candidate)
    other = other.drop("sign", "entity", "version").rename(
        {f"other_{name}": name for name in other.columns if name not in _KEPT}
    )
    rows = mine.inner_join(other, mine.prediction_id == other.other_prediction_id)
    judged = ibis.ifelse(rows.other_score.isnull(), ibis.null("float64"), rows.score)
    return rows.mutate(champion_score=rows.score, score=judged).drop("other_prediction_id")


_KEPT = ("sign", "entity", "version")


def _one_role(rows: Any) -> Any:
    rank = ibis.cases(*((rows.role == role, i) for i, role in enumerate(_ROLES)), else_=len(_ROLES))
    return first_of(rows.mutate(rank=rank), ("prediction_id",), ("rank", "role")).drop("rank")


def sample_keys(raw: Any, seed: int) -> Any:
    """Hashes of each prediction once: `place`, which orders the sample, and `key`."""
    key = raw.prediction_id + "/" + raw.version.fill_null("") + "/" + raw.role.fill_null("")
    return raw.select(place=sample_place(raw, seed), key=key.hash()).distinct()


def sample_place(raw: Any, seed: int) -> Any:
    """A prediction's place in an even order of all, by its id."""
    return (raw.prediction_id + f"#{seed}").hash()


def _moment(at: datetime) -> Any:
    return ibis.literal(at, "timestamp('UTC')")
