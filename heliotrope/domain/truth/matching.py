"""Ibis expression of the join: the one label, if any, that is each prediction's."""

from typing import Any

import ibis
from ibis import _

from heliotrope.domain.truth.rows import BY_ENTITY, BY_ID, PREDICTION_KEY

KEY = ("sign", *PREDICTION_KEY)


def matched(predictions: Any, labels: Any, entities: bool = True) -> Any:
    """Every prediction with `value`, the label that counts, and `delay`, how long it took.

    A label by prediction id wins over any by entity key. Of several the last received counts, then
    the last to have happened, then the greatest id, so the choice is the same in any order of
    arrival. A label by entity key belongs to every prediction of the entity made up to `until`.
    `delay` is in microseconds, 0 for a label that came before its prediction; both columns are
    null where there is no label, and where the prediction's score cannot be judged.

    Args:
        predictions: as `prediction_rows` gives them, and `sign`.
        labels: as `label_rows` gives them, and `sign`; rows meet only their own sign's.
        entities: False leaves out the join by entity key, where it is known that there is no such
            label.
    """
    direct = _last(labels.filter(labels.kind == BY_ID), ("sign", "target")).select(
        direct_sign="sign", direct_id="target", direct_value="value", direct_at="received"
    )
    joined = predictions.left_join(
        direct,
        [
            predictions.sign == direct.direct_sign,
            predictions.prediction_id == direct.direct_id,
        ],
    ).drop("direct_sign", "direct_id")
    value, at = joined.direct_value, joined.direct_at
    if entities:
        joined = _with_entity_label(joined, labels)
        value = ibis.coalesce(joined.direct_value, joined.entity_value)
        at = ibis.coalesce(joined.direct_at, joined.entity_at)
    judged = joined.mutate(
        value=ibis.ifelse(joined.score.isnull(), ibis.null("float64"), value),
        delay=ibis.ifelse(joined.score.isnull(), ibis.null("int64"), at - joined.at),
    )
    return judged.mutate(delay=ibis.ifelse(judged.delay < 0, 0, judged.delay)).drop(
        "direct_value", "direct_at", *(["entity_value", "entity_at"] if entities else [])
    )


def _with_entity_label(joined: Any, labels: Any) -> Any:
    open_ = joined.filter(joined.direct_at.isnull() & joined.entity.notnull())
    open_ = open_.select(*KEY, "at", "entity")
    entity = labels.filter(labels.kind == BY_ENTITY).select(
        label_sign="sign", target="target", label_id="label_id",
        value="value", until="until", received="received",
    )  # fmt: skip
    pairs = open_.join(
        entity,
        [
            open_.sign == entity.label_sign,
            open_.entity == entity.target,
            open_.at <= entity.until,
        ],
    )
    found = _last(pairs, KEY).select(
        **{f"found_{name}": name for name in KEY}, entity_value="value", entity_at="received"
    )
    return joined.left_join(found, [joined[name] == found[f"found_{name}"] for name in KEY]).drop(
        *(f"found_{name}" for name in KEY)
    )


def _last(labels: Any, key: tuple[str, ...]) -> Any:
    order = [ibis.desc(labels[name]) for name in ("received", "until", "label_id", "value")]
    place = ibis.row_number().over(group_by=list(key), order_by=order)
    return labels.mutate(_place=place).filter(_._place == 0).drop("_place")
