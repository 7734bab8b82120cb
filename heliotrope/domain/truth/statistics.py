"""Ibis expressions from matched rows to statistics of windows that can be added and subtracted.

Every statistic is a sum of whole numbers (scores and losses in fixed point), so adding up parts in
any order gives the same result to the bit, and taking a restated row out again leaves nothing.
"""

from typing import Any

import ibis
import numpy as np

from heliotrope.domain.truth.plan import BINS, ORIGIN_US, SLICE_BINS_EACH, WHOLE, TruthPlan
from heliotrope.vocabulary import Task

MAIN = 0
"""Every prediction, by outcome, called class and score bin. Sums: score, then (binary) squared
error, its square, log loss, its square; (multiclass) 0, 0, log loss, its square."""
DELAY = 1
"""Every labelled prediction by how long its label took. No sums."""
ERROR = 2
"""Regression: labelled rows by decade of the absolute error. Sums, in units of the decade: error,
squared error, its square."""
LABEL = 3
"""Regression: labelled rows by decade of the label. Sums, in units of the decade and 1e-9, split
at 1e5 into high and low: high, low, high squared, high times low, low squared."""
CLASS = 4
"""Multiclass: CLASS + k has labelled rows by whether they are of class k, and bin of its score."""

UNLABELLED = -1
UNJUDGED = -2
"""The score cannot be judged."""

UNIT = 1_000_000_000
"""Fixed point of scores and losses."""
SQUARE_UNIT = 1_000_000
"""Fixed point of squared losses; 64 bits then hold 7e9 rows of the largest log loss."""
FOURTH_UNIT = 100_000
SPLIT = 100_000
DECADE_OFFSET = 40
LOWEST_DECADE, HIGHEST_DECADE = -30, 16
DELAY_STEPS = 40
"""Delay bins are equal steps of the fourth root of milliseconds: within 1% of a delay of 1 s,
0.1% of a day."""
KEYS = ("window", "version", "role", "axis", "code", "series", "outcome", "called", "bin")
SUMS = ("n", "a", "b", "c", "d", "e")

_EPS = float(np.finfo(np.float64).eps)


def details(matched: Any, plan: TruthPlan) -> Any:
    """Matched rows with their window, bins and fixed-point losses; what `cells` adds up."""
    since = matched.at - ORIGIN_US
    inside = (since % plan.window_us + plan.window_us) % plan.window_us
    known = matched.value.notnull()
    outcome = matched.value.cast("int64") if plan.task is not Task.REGRESSION else 0
    rows = matched.mutate(
        window=((since - inside) / plan.window_us).round().cast("int64"),
        outcome=ibis.cases(
            (matched.score.isnull(), UNJUDGED), (known, outcome), else_=UNLABELLED
        ).cast("int64"),
        delay_bin=(ibis.coalesce(matched.delay, 0) / 1000).sqrt().sqrt(),
    )
    rows = rows.mutate(delay_bin=(rows.delay_bin * DELAY_STEPS).floor().cast("int64"))
    return {
        Task.BINARY: _binary, Task.MULTICLASS: _multiclass, Task.REGRESSION: _regression
    }[plan.task](rows, plan)  # fmt: skip


def cells(detail: Any, plan: TruthPlan) -> Any:
    """Rows of `KEYS` and `SUMS`: what each window, version, role and slice gains.

    Args:
        detail: of `details`; used once a series and slice axis, so best materialised.
        plan: of the model.
    """
    parts = [part for axis in range(WHOLE, len(plan.axes)) for part in _series(detail, plan, axis)]
    return ibis.union(*parts) if len(parts) > 1 else parts[0]


def _series(detail: Any, plan: TruthPlan, axis: int) -> list[Any]:
    labelled = detail.filter(detail.outcome >= 0)
    found = [
        _sums(detail, plan, axis, MAIN, "score_bin", "outcome"),
        _sums(labelled, plan, axis, DELAY, "delay_bin", None),
    ]
    if plan.task is Task.REGRESSION:
        found.append(_sums(labelled, plan, axis, ERROR, "error_bin", None, "error_"))
        found.append(_sums(labelled, plan, axis, LABEL, "label_bin", None, "label_"))
    if plan.task is Task.MULTICLASS and "roc_auc" in plan.metrics:
        for place, name in enumerate(plan.score_columns):
            rows = labelled.select(
                "sign", "window", "version", "role", *plan.slice_columns,
                outcome=(labelled.outcome == place).cast("int64"),
                called=ibis.literal(0, "int64"),
                score_bin=score_bin(labelled[name]),
                a=_fixed(labelled[name], UNIT),
            )  # fmt: skip
            found.append(_sums(rows, plan, axis, CLASS + place, "score_bin", "outcome"))
    return found


def _sums(
    rows: Any, plan: TruthPlan, axis: int, series: int, bins: str, outcome: str | None,
    prefix: str = "",
) -> Any:  # fmt: skip
    place = rows[bins]
    if axis != WHOLE and bins == "score_bin":
        place = place - place % SLICE_BINS_EACH
    zero = ibis.literal(0, "int64")
    code = zero if axis == WHOLE else rows[plan.slice_columns[axis]].cast("int64")
    main = outcome is not None
    keyed = rows.select(
        "sign", "window", "version", "role",
        axis=ibis.literal(axis, "int64"),
        code=code,
        series=ibis.literal(series, "int64"),
        outcome=rows[outcome] if outcome else zero,
        called=rows.called.cast("int64") if main else zero,
        bin=place.cast("int64"),
        **{
            name: rows[prefix + name] if series != DELAY and prefix + name in rows.columns
            else zero
            for name in SUMS[1:]
        },
    )  # fmt: skip
    gained = {name: (keyed[name] * keyed.sign).sum().cast("int64") for name in SUMS[1:]}
    return keyed.group_by(list(KEYS)).agg(n=keyed.sign.sum().cast("int64"), **gained)


def score_bin(score: Any) -> Any:
    """Bin of a probability, 0 to BINS - 1: as fine near 0 and 1 as rare classes need.

    Bins are equal steps of sqrt(p / 2), mirrored at 1/2: 0.001 wide in the middle, 0.0002 at 2%,
    5e-7 at the ends. Square roots are exactly rounded on every engine, logarithms are not.
    """
    known = ibis.coalesce(score, 0.0)
    root = ibis.ifelse(known <= 0.5, (known / 2).sqrt(), 1 - ((1 - known) / 2).sqrt())
    place = (root * BINS).floor().cast("int64")
    return ibis.ifelse(place > BINS - 1, BINS - 1, place)


def _fixed(value: Any, unit: int) -> Any:
    return (value * unit + 0.5).floor().cast("int64")


def _losses(log_loss: Any, known: Any) -> dict[str, Any]:
    return {
        "d": ibis.ifelse(known, _fixed(log_loss, UNIT), 0),
        "e": ibis.ifelse(known, _fixed(log_loss * log_loss, SQUARE_UNIT), 0),
    }


def _clipped(share: Any) -> Any:
    low = ibis.ifelse(share < _EPS, _EPS, share)
    return ibis.ifelse(low > 1 - _EPS, 1 - _EPS, low)


def _binary(rows: Any, _: TruthPlan) -> Any:
    score, known = ibis.coalesce(rows.score, 0.5), rows.outcome >= 0
    positive = rows.outcome == 1
    gap = ibis.ifelse(positive, 1 - score, score)
    squared = gap * gap
    clipped = _clipped(score)
    own = ibis.ifelse(positive, clipped, 1 - clipped)
    return rows.mutate(
        score_bin=score_bin(rows.score),
        a=ibis.ifelse(rows.outcome == UNJUDGED, 0, _fixed(score, UNIT)),
        b=ibis.ifelse(known, _fixed(squared, UNIT), 0),
        c=ibis.ifelse(known, _fixed(squared * squared, UNIT), 0),
        **_losses(-own.ln(), known),
    )


def _multiclass(rows: Any, plan: TruthPlan) -> Any:
    names, known = plan.score_columns, rows.outcome >= 0
    clipped = [_clipped(ibis.coalesce(rows[name], 0.5)) for name in names]
    total = clipped[0]
    for part in clipped[1:]:
        total = total + part
    own = ibis.cases(*((rows.outcome == k, part) for k, part in enumerate(clipped)), else_=1.0)
    said = ibis.cases(*((rows.called == k, rows[n]) for k, n in enumerate(names)), else_=None)
    return rows.mutate(
        score_bin=score_bin(said),
        a=ibis.ifelse(rows.outcome == UNJUDGED, 0, _fixed(ibis.coalesce(said, 0.0), UNIT)),
        **_losses(-(own / total).ln(), known),
    )


def _regression(rows: Any, _: TruthPlan) -> Any:
    label = ibis.coalesce(rows.value, 0.0)
    error = (ibis.coalesce(rows.score, 0.0) - label).abs()
    rows = rows.mutate(
        score_bin=ibis.literal(0, "int64"), label_=label, error_=error,
        error_bin=_decade(error), label_bin=_decade(label.abs()),
    )  # fmt: skip
    size = rows.error_ / _power_of_ten(rows.error_bin)
    rows = rows.mutate(
        error_a=_fixed(size, UNIT),
        error_b=_fixed(size * size, UNIT),
        error_c=_fixed(size * size * size * size, FOURTH_UNIT),
        whole=_fixed(rows.label_ / _power_of_ten(rows.label_bin), UNIT),
    )
    low = (rows.whole % SPLIT + SPLIT) % SPLIT
    rows = rows.mutate(label_b=low)
    rows = rows.mutate(label_a=((rows.whole - rows.label_b) / SPLIT).round().cast("int64"))
    return rows.mutate(
        label_c=rows.label_a * rows.label_a,
        label_d=rows.label_a * rows.label_b,
        label_e=rows.label_b * rows.label_b,
    )


def _decade(size: Any) -> Any:
    safe = ibis.ifelse(size > 10.0**LOWEST_DECADE, size, 10.0**LOWEST_DECADE)
    return safe.log10().floor().cast("int64") + DECADE_OFFSET


def _power_of_ten(place: Any) -> Any:
    # Literals, since engines round pow() differently.
    decades = range(LOWEST_DECADE - 1, HIGHEST_DECADE + 1)
    powers = [(place == decade + DECADE_OFFSET, float(f"1e{decade}")) for decade in decades]
    return ibis.cases(*powers, else_=1.0)
