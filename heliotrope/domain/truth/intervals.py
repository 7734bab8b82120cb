"""95% intervals in closed form, from counts alone: a window is restated too often to resample.

Each says where it comes from. Shares are kept inside [0, 1] by construction, and a share of 0 or 1
never gets an interval of no width.
"""

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from heliotrope.domain.bootstrap import expanded_tail, proportion_interval
from heliotrope.domain.evaluation import MetricValue

FloatVector = npt.NDArray[np.float64]

TAIL = 0.025
_Z = NormalDist().inv_cdf(1 - TAIL)
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447)
"""Quantiles for 1 to 6 degrees of freedom, where the expansion used beyond is too rough."""
UNDEFINED = MetricValue(value=math.nan, low=math.nan, high=math.nan)


def share(value: float, rows: float) -> MetricValue:
    """Wilson's score interval (1927) of a share of `rows` rows."""
    if rows <= 0 or not math.isfinite(value):
        return UNDEFINED
    spread = _Z**2 / rows
    centre = (value + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(value * (1 - value) / rows + spread / (4 * rows)) / (1 + spread)
    low = 0.0 if value <= 0 else max(0.0, centre - half)
    high = 1.0 if value >= 1 else min(1.0, centre + half)
    return MetricValue(value=value, low=low, high=high)


def f1(value: float, true_or_called: float) -> MetricValue:
    """F1 is 2J / (1 + J) of the Jaccard share J = tp / (tp + fp + fn), whose interval is Wilson's.

    Args:
        value: F1.
        true_or_called: tp + fp + fn.
    """
    if not math.isfinite(value):
        return UNDEFINED
    inner = share(value / (2 - value), true_or_called)
    return MetricValue(
        value=value, low=2 * inner.low / (1 + inner.low), high=2 * inner.high / (1 + inner.high)
    )


def mean(value: float, mean_square: float, rows: float, floor: float = 0.0) -> MetricValue:
    """Student's interval of a mean; NaN ends below two rows, where no spread can be told."""
    if rows <= 0:
        return UNDEFINED
    if rows < 2:
        return MetricValue(value=value, low=math.nan, high=math.nan)
    half = student_width(rows) * math.sqrt(max(mean_square - value**2, 0.0) / rows)
    return MetricValue(value=value, low=max(floor, value - half), high=value + half)


def student_width(rows: float) -> float:
    """Student's quantile for `rows` rows, with sqrt(n / (n - 1)) for the estimated spread."""
    count = max(2, int(rows))
    if count - 2 < len(_STUDENT):
        return _STUDENT[count - 2] * math.sqrt(count / (count - 1))
    return -NormalDist().inv_cdf(expanded_tail(TAIL, count))


def within(value: float, spread: float, rows: float) -> MetricValue:
    """Interval of a number between 0 and 1 with a standard error, on the logit scale.

    A spread of 0 (all pairs in order, say) takes the exact interval of `rows` out of `rows`.
    """
    if not math.isfinite(value) or rows < 1:
        return UNDEFINED
    if value <= 0 or value >= 1 or spread <= 0:
        edge = proportion_interval(int(rows), int(rows)).low
        return MetricValue(
            value=value, low=max(0.0, value - (1 - edge)), high=min(1.0, value + (1 - edge))
        )
    half = student_width(rows) * spread / (value * (1 - value))
    logit = math.log(value / (1 - value))
    return MetricValue(value=value, low=_expit(logit - half), high=_expit(logit + half))


def average_precision(value: float, positives: float) -> MetricValue:
    """Logit interval of Boyd, Eng and Page ("Area under the precision-recall curve", 2013)."""
    if not math.isfinite(value) or positives < 1:
        return UNDEFINED
    return within(value, math.sqrt(max(value * (1 - value), 0.0) / positives), positives)


def roc_auc_spread(positive: FloatVector, negative: FloatVector) -> float:
    """Standard error of ROC AUC over binned scores (DeLong, DeLong and Clarke-Pearson, 1988).

    Args:
        positive: [bins] positive rows, by rising score.
        negative: [bins] negative rows.
    """
    p, n = float(positive.sum()), float(negative.sum())
    if p < 2 or n < 2:
        return 0.0
    below = np.cumsum(negative) - negative / 2
    above = p - np.cumsum(positive) + positive / 2
    of_positive, of_negative = below / n, above / p
    area = float(positive @ of_positive) / p
    first = float(positive @ (of_positive - area) ** 2) / (p - 1)
    second = float(negative @ (of_negative - area) ** 2) / (n - 1)
    return math.sqrt(first / p + second / n)


def from_draws(value: float, draws: FloatVector, rows: int) -> MetricValue:
    """Expanded percentiles of resampled values."""
    from heliotrope.domain.bootstrap import interval

    return interval(value, draws, rows)


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, value))))
