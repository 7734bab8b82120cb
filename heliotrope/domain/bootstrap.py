"""Intervals by resampling rows: what a metric or a difference could have been on other rows.

A resample is a vector of row counts (multinomial), shared by all models it is applied to, so that
differences are paired. Rows are not stratified by class: how many positives a holdout holds is
chance too, and precision, log loss and accuracy depend on it; fixing it would understate them.

Intervals are *expanded percentile* intervals (Hesterberg, "What Teachers Should Know About the
Bootstrap", The American Statistician 69(4), 2015, section 4.4.1): plain percentiles are too narrow
by sqrt((m - 1) / m) and use the normal where Student's t is due, which shows with 20 positives.
`m` is the number of rows, or of the rarest class for metrics that rest on each class.

Cost: about n random numbers a resample. `resamples_for` takes fewer resamples above 40,000 rows;
the ends of an interval are then noisier (some 5% of its width at 200), which matters little where
the interval itself is narrow. Above `BAG` rows the spread is that of one bag of little bootstraps
(Kleiner, Talwalkar, Sarkar and Jordan, "A scalable bootstrap for massive data", JRSS B 76(4),
2014): resamples as large as the whole, drawn from `BAG` of its rows, moved to the whole's value.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from heliotrope.domain.evaluation import Difference, MetricValue
from heliotrope.domain.metrics import Answers

FloatVector = npt.NDArray[np.float64]

RESAMPLES = 1000
FEWEST_RESAMPLES = 200
ROW_BUDGET = 40_000_000
BAG = 100_000
"""Rows above which resamples are drawn from this many of them."""
BAG_RAREST = 200
"""Fewest rows of a class in a bag; with fewer the whole is resampled."""
UNDEFINED_SHARE = 0.05
"""An interval is NaN when more than this share of its resamples were undefined."""


def resamples_for(rows: int) -> int:
    """How many resamples this many rows are given.

    >>> resamples_for(20_000), resamples_for(100_000), resamples_for(2_000_000)
    (1000, 400, 400)
    """
    return max(FEWEST_RESAMPLES, min(RESAMPLES, ROW_BUDGET // max(min(rows, BAG), 1)))


def resample(
    models: Mapping[str, Answers],
    names: Mapping[str, Sequence[str]],
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, dict[str, FloatVector]]:
    """The metrics of several models over the same resamples of the same rows.

    Args:
        models: answers by model, all to the same rows in the same order.
        names: metrics by model.
        rng: randomness.
        resamples: how many.

    Returns:
        By model and metric: [resamples] values, NaN where undefined.
    """
    rows = {answers.rows for answers in models.values()}
    if len(rows) > 1:
        raise ValueError(f"all models must answer the same rows. Got {sorted(rows)} rows.")
    draws = {model: {name: np.full(resamples, np.nan) for name in names[model]} for model in models}
    count = rows.pop() if rows else 0
    if count == 0:
        return draws
    bag = _bag(models, count, rng)
    drawn_from = bag if bag is not None else models
    for index in range(resamples):
        weights = _weights(rng, count, None if bag is None else BAG)
        for model, answers in drawn_from.items():
            for name, value in answers.values(names[model], weights).items():
                draws[model][name][index] = value
    if bag is not None:
        for model, answers in models.items():
            whole, part = answers.values(names[model]), bag[model].values(names[model])
            for name in names[model]:
                draws[model][name] += whole[name] - part[name]
    return draws


def _bag(
    models: Mapping[str, Answers], rows: int, rng: np.random.Generator
) -> dict[str, Answers] | None:
    if rows <= BAG:
        return None
    chosen = np.sort(rng.choice(rows, BAG, replace=False))
    bag = {name: answers.take(chosen) for name, answers in models.items()}
    any_of = next(iter(bag))
    whole = models[any_of]
    same_classes = len(np.unique(bag[any_of].labels)) == len(np.unique(whole.labels))
    if whole.classes and not (same_classes and bag[any_of].rarest >= BAG_RAREST):
        return None
    return bag


def _weights(rng: np.random.Generator, rows: int, bag: int | None) -> FloatVector:
    if bag is None:
        return np.bincount(rng.integers(0, rows, rows), minlength=rows).astype(np.float64)
    # Poisson counts are the multinomial's at this size, and cost one draw a row of the bag.
    return rng.poisson(rows / bag, bag).astype(np.float64)


def interval(point: float, draws: FloatVector, effective: int, level: float = 0.95) -> MetricValue:
    """Two-sided interval of a metric from its resampled values."""
    low, high = _percentiles(draws, (1 - level) / 2, effective)
    if not math.isfinite(point):
        low = high = math.nan
    return MetricValue(value=point, low=low, high=high)


def difference(
    candidate: tuple[float, FloatVector],
    other: tuple[float, FloatVector],
    effective: int,
    confidence: float,
    greater_is_better: bool,
) -> Difference:
    """Candidate minus other from values over the same resamples, positive when better.

    Args:
        candidate: point value and [resamples] values.
        other: likewise, from the same resamples.
        effective: rows, or rows of the rarest class.
        confidence: one-sided, of each end on its own.
        greater_is_better: of the metric; the sign is turned otherwise.
    """
    sign = 1.0 if greater_is_better else -1.0
    value = sign * (candidate[0] - other[0])
    low, high = _percentiles(sign * (candidate[1] - other[1]), 1 - confidence, effective)
    if not math.isfinite(value):
        low = high = math.nan
    return Difference(value=value, low=low, high=high)


def proportion_interval(successes: int, rows: int, level: float = 0.95) -> MetricValue:
    """Clopper and Pearson's exact interval where all rows, or none, are successes.

    Resampling identical rows always gives the same value, and [1, 1] would claim certainty.

    >>> str(proportion_interval(100, 100))
    '1.0000 [0.9638, 1.0000]'
    """
    edge = ((1 - level) / 2) ** (1 / rows)
    if successes == rows:
        return MetricValue(value=1.0, low=edge, high=1.0)
    return MetricValue(value=0.0, low=0.0, high=1 - edge)


def _percentiles(draws: FloatVector, tail: float, effective: int) -> tuple[float, float]:
    defined = draws[np.isfinite(draws)]
    if effective < 2 or len(defined) < (1 - UNDEFINED_SHARE) * len(draws) or len(defined) == 0:
        return math.nan, math.nan
    widened = expanded_tail(tail, effective)
    low, high = np.quantile(defined, [widened, 1 - widened])
    return float(low), float(high)


def expanded_tail(tail: float, effective: int) -> float:
    """The tail probability whose plain percentile makes up for the bootstrap's narrowness.

    >>> round(expanded_tail(0.025, 20), 4)
    0.0159
    """
    freedom = effective - 1
    quantile = -_student_quantile(tail, freedom) * math.sqrt(effective / freedom)
    return NormalDist().cdf(-quantile)


def _student_quantile(probability: float, freedom: int) -> float:
    # Abramowitz and Stegun 26.7.5; within .001 of the truth from 6 degrees of freedom on.
    z = NormalDist().inv_cdf(probability)
    terms: tuple[float, ...] = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))
