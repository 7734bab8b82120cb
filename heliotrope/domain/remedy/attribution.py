"""What has each feature to do with it? Its values are mapped back to what they were, one by one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heliotrope.domain.remedy.calibration import Calibration
from heliotrope.domain.remedy.rows import FloatMatrix, Floats, Sample, Score
from heliotrope.spec import Feature

_LEAST_MOVE = 0.03


@dataclass(frozen=True)
class Mapped:
    """A feature whose values were mapped back."""

    feature: str
    moved: float
    """Share of rows whose value changed by it."""
    expected: float
    """Fall of the mean expected loss."""
    regained: float
    """Fall of the mean true loss."""
    z: float
    """Standard errors of `regained`, paired by row."""


def attribute(
    features: Sequence[Feature],
    reference: Sample,
    now: Sample,
    score: Score,
    calibration: Calibration,
    seed: int = 0,
    most: int = 4000,
) -> list[Mapped]:
    """Map each feature that moved back to the reference's quantiles and score again.

    A world that moved is easier to foretell when mapped back (less expected loss) and its labels
    fit less well; a column that is wrong fits its labels better again.

    Args:
        features: of the spec.
        reference: labelled rows.
        now: labelled rows.
        score: the model.
        calibration: of the reference.
        seed: of the values drawn for words and missing ones.
        most: rows scored a feature.
    """
    rows = now.labelled(most)
    base = calibration.losses(score(rows.features), rows.labels)
    found = []
    for index, feature in enumerate(features):
        rng = np.random.default_rng([seed, index])
        before, values = reference.features[:, index], rows.features[:, index]
        numeric = feature.type.numeric
        back = map_back(values, before, rng) if numeric else _redrawn(values, before, rng)
        same = (back == values) | (np.isnan(back) & np.isnan(values))
        moved = 1 - float(same.mean())
        if not numeric and moved < _LEAST_MOVE:
            continue
        if numeric and _apart(values, back, before) < _LEAST_MOVE:
            continue
        matrix = rows.features.copy()
        matrix[:, index] = back
        losses = calibration.losses(score(matrix), rows.labels)
        gain = base.true - losses.true
        error = float(gain.std()) / max(1.0, np.sqrt(len(gain)))
        found.append(
            Mapped(
                feature.name,
                moved,
                float((base.expected - losses.expected).mean()),
                float(gain.mean()),
                float(gain.mean()) / max(error, 1e-12),
            )
        )
    return found


def _apart(values: FloatMatrix, back: FloatMatrix, before: FloatMatrix) -> float:
    spread = float(np.nanstd(before[np.isfinite(before)])) if np.isfinite(before).any() else 0.0
    both = np.isfinite(values) & np.isfinite(back)
    lost = float((np.isfinite(values) != np.isfinite(back)).mean())
    gap = np.abs(values[both].astype(np.float64) - back[both])
    return lost + (float(gap.mean()) / max(spread, 1e-9) if both.any() else 0.0)


def map_back(
    values: npt.NDArray[np.float32], before: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Values moved to the reference's value of the same rank; missing ones keep their share.

    >>> rng = np.random.default_rng(0)
    >>> map_back(np.float32([30, 10, 20]), np.float32([1, 2, 3]), rng).tolist()
    [3.0, 1.0, 2.0]
    """
    known = np.sort(before[np.isfinite(before)])
    held = np.isfinite(values)
    back = values.copy()
    if not len(known):
        return back
    inside = values[held]
    # Ties are broken at random, or a stuck column would map to one value again.
    order = np.lexsort((rng.random(len(inside)), inside))
    ranks = np.empty(len(inside))
    ranks[order] = (np.arange(len(inside)) + 0.5) / max(1, len(inside))
    exact = np.quantile(known, ranks, method="nearest") if len(inside) else inside
    back[held] = exact
    share_before = 1 - len(known) / len(before)
    surplus = round(float(1 - held.mean() - share_before) * len(values))
    if surplus > 0:
        chosen = rng.choice(np.flatnonzero(~held), surplus, replace=False)
        back[chosen] = rng.choice(known, surplus)
    return back


def _redrawn(
    values: npt.NDArray[np.float32], before: npt.NDArray[np.float32], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    # As few rows as possible change their word: from those that are too many to those too few.
    old, now = _codes(before), _codes(values)
    size = int(max(old.max(initial=0), now.max(initial=0))) + 1
    want = np.bincount(old, minlength=size) / max(1, len(old)) * len(now)
    surplus = np.bincount(now, minlength=size) - want
    back = now.copy()
    lacking = np.clip(-surplus, 0, None)
    if lacking.sum() < 1:
        return values
    for code in np.flatnonzero(surplus >= 1):
        here = np.flatnonzero(now == code)
        chosen = rng.choice(here, min(len(here), int(surplus[code])), replace=False)
        back[chosen] = rng.choice(size, len(chosen), p=lacking / lacking.sum())
    answer: npt.NDArray[np.float32] = np.where(back == 0, np.nan, back - 1).astype(np.float32)
    return answer


def _codes(values: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    return np.where(np.isfinite(values), values + 1, 0).astype(np.intp)


def importance_of_shift(mapped: Sequence[Mapped], fall: float) -> list[tuple[Mapped, float]]:
    """Features with their share of a fall, the largest first."""
    scale = max(fall, 1e-12)
    shares = [(m, float(np.clip(max(m.expected, m.regained) / scale, 0.0, 1.0))) for m in mapped]
    return sorted(shares, key=lambda pair: (-pair[1], pair[0].feature))


def mean_and_error(values: Floats) -> tuple[float, float]:
    """Mean and its standard error."""
    if not len(values):
        return float("nan"), float("nan")
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))
