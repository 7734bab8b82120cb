"""Could it be chance? p-values from a sketch and a window, valid at any number of rows."""

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc
from scipy.special import kolmogorov as kolmogorov_tail
from scipy.stats import binom, chi2, kstwobign

from heliotrope.domain.drift.sketch import ColumnSketch
from heliotrope.domain.drift.window import Floats

EXPECTED = 5.0
"""Sparse values are merged until each is expected so often in the window, as chi-square needs."""


def kolmogorov(reference: ColumnSketch, ordered: Floats) -> tuple[float, float]:
    """Two-sample Kolmogorov-Smirnov: p-value and distance.

    The reference is known to one part in a thousand, which is taken off the distance: the p-value
    errs to the large side (Smirnov's limit does as well, and so do ties).

    Args:
        reference: of a number.
        ordered: finite values of the window, rising; at least one.
    """
    points = np.asarray(reference.points)
    parts, rows = len(points), len(ordered)
    above = np.searchsorted(points, points, side="right") / parts
    over = np.searchsorted(ordered, points.astype(ordered.dtype), side="right") / rows
    gap = float(np.max(np.abs(over - above)))
    distance = max(0.0, gap - 1 / parts) if parts < reference.held else max(0.0, gap)
    size = rows * reference.held / (rows + reference.held)
    return float(kolmogorov_tail(distance * math.sqrt(size))), distance


def chi_square(before: Mapping[str, int], now: Mapping[str, int]) -> tuple[float, float]:
    """Two-sample chi-square: p-value and statistic; sparse values are merged into one.

    Args:
        before: rows of each value in the reference.
        now: in the window.
    """
    names = sorted({*before, *now})
    seen = np.array([[before.get(n, 0), now.get(n, 0)] for n in names], dtype=np.float64)
    if not len(seen) or not seen.sum(axis=0).all():
        return 1.0, 0.0
    rows = seen.sum(axis=0)
    expected = seen.sum(axis=1) * min(rows) / rows.sum()
    kept = _merged(seen, expected)
    if len(kept) < 2:
        return 1.0, 0.0
    want = kept.sum(axis=1, keepdims=True) * kept.sum(axis=0) / kept.sum()
    statistic = float(np.sum((kept - want) ** 2 / want))
    return float(chdtrc(len(kept) - 1, statistic)), statistic


def _merged(
    seen: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    rare = expected < EXPECTED
    if not rare.any():
        return seen
    rest, kept = seen[rare].sum(axis=0), seen[~rare]
    if expected[rare].sum() >= EXPECTED or not len(kept):
        return np.vstack([kept, rest])
    # What is left over is too rare to stand alone: it joins the rarest that may.
    rarest = int(np.argmin(expected[~rare]))
    kept = kept.copy()
    kept[rarest] += rest
    return kept


def share_change(now: int, rows: int, before: int, other_rows: int) -> float:
    """p-value that two shares are alike, two-sided; exact, with the reference's taken as known.

    The reference's share is moved towards the window's by two and a half standard errors first,
    so that a small reference calls nothing certain.
    """
    if not rows or not other_rows:
        return 1.0
    share = (before + 0.5) / (other_rows + 1)
    error = 2.5 * math.sqrt(share * (1 - share) / other_rows) + 1 / other_rows
    seen = now / rows
    if abs(seen - share) <= error:
        return 1.0
    share = share + error if seen > share else share - error
    tail = binom.sf(now - 1, rows, share) if seen > share else binom.cdf(now, rows, share)
    return float(min(1.0, 2 * tail))


@lru_cache(maxsize=4096)
def critical_gap(budget: float) -> float:
    """What a Kolmogorov-Smirnov distance times the root of the effective rows must exceed."""
    return float(kstwobign.isf(budget))


@lru_cache(maxsize=4096)
def critical_square(budget: float, degrees: int) -> float:
    """What a chi-square statistic must exceed."""
    return float(chi2.isf(budget, degrees))


def rows_needed(statistic_root: float, rows: int, reference_rows: int, wanted: float) -> int | None:
    """Rows at which a change as large as the one seen would be beyond chance.

    Args:
        statistic_root: of the test with these rows, growing as the root of the effective rows.
        rows: of the window.
        reference_rows: of the reference.
        wanted: what the root must reach.

    Returns:
        None where no window would do: the change is none, or the reference too small.
    """
    if statistic_root <= 0:
        return None
    size = rows * reference_rows / (rows + reference_rows)
    needed = size * (wanted / statistic_root) ** 2
    if needed >= 0.99 * reference_rows:
        return None
    return math.ceil(needed * reference_rows / (reference_rows - needed))


def smallest_shift(rows: int, reference_rows: int, budget: float) -> float:
    """The smallest shift of a bell curve, in standard deviations, found four times in five.

    A shift of d moves the distribution function by d / sqrt(2 pi) at most; what is found must
    exceed the critical value by .84 standard errors of the gap, at most 1/2 each.
    """
    size = rows * reference_rows / max(1, rows + reference_rows)
    if size <= 0:
        return math.inf
    critical = critical_gap(budget) + 0.84 / 2
    return critical / math.sqrt(size) * math.sqrt(2 * math.pi)
