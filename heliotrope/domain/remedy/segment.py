"""Where is it worst? A shallow tree, fitted on one half of the rows and tested on the other."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heliotrope.domain.remedy.rows import FloatMatrix, Floats
from heliotrope.spec import Feature, FeatureType

_CUTS = 7
_LEAST = 40
_SURE = 4.0


@dataclass(frozen=True)
class Segment:
    """Rows that share a trait and hold more of the excess loss than their part."""

    text: str
    """Such as `homeownership = RENT and loan_amount > 12000`."""
    feature: str
    """The one of the first split."""
    rows: float
    """Share of the tested rows."""
    share: float
    """Of the excess loss of the tested rows, 0 to 1."""
    z: float
    """Standard errors by which its mean exceeds the rest's."""


@dataclass(frozen=True, eq=False)
class _Split:
    feature: int
    text: str
    inside: npt.NDArray[np.bool_]


def worst_segment(
    features: Sequence[Feature], rows: FloatMatrix, excess: Floats, seed: int = 0
) -> Segment | None:
    """The segment where loss exceeds what was to be expected; None where none stands out.

    Args:
        features: of the spec.
        rows: [rows, features].
        excess: [rows] loss less expected loss.
        seed: of the halves.
    """
    if len(excess) < 8 * _LEAST:
        return None
    half = np.random.default_rng(seed).permutation(len(excess)) % 2 == 0
    within = np.ones(len(excess), dtype=bool)
    texts: list[str] = []
    first = ""
    for _ in range(2):
        best, gain = None, 0.0
        for split in _splits(features, rows, within):
            value = _gain(excess, within & half, split.inside & within & half)
            if value > gain:
                best, gain = split, value
        if best is None or (texts and gain < 9.0):
            break
        within = within & best.inside
        texts.append(best.text)
        first = first or features[best.feature].name
    if not texts:
        return None
    return _tested(texts, first, excess, within, ~half)


def _tested(
    texts: list[str],
    first: str,
    excess: Floats,
    within: npt.NDArray[np.bool_],
    tested: npt.NDArray[np.bool_],
) -> Segment | None:
    inside, rest = excess[within & tested], excess[~within & tested]
    if len(inside) < _LEAST or len(rest) < _LEAST:
        return None
    error = math.sqrt(inside.var() / len(inside) + rest.var() / len(rest))
    z = float(inside.mean() - rest.mean()) / max(error, 1e-12)
    total = float(excess[tested].sum())
    if z < _SURE or total <= 0:
        return None
    share = float(np.clip(inside.sum() / total, 0.0, 1.0))
    return Segment(" and ".join(texts), first, len(inside) / int(tested.sum()), share, z)


def _gain(excess: Floats, parent: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_]) -> float:
    # The squared t statistic of the difference, where the inside is the worse side.
    n, m = int(inside.sum()), int(parent.sum())
    if n < _LEAST or m - n < _LEAST:
        return 0.0
    total, part = float(excess[parent].sum()), float(excess[inside].sum())
    apart = part / n - (total - part) / (m - n)
    if apart <= 0:
        return 0.0
    return apart**2 / max(float(excess[parent].var()), 1e-12) * n * (m - n) / m


def _splits(
    features: Sequence[Feature], rows: FloatMatrix, within: npt.NDArray[np.bool_]
) -> Iterator[_Split]:
    for index, feature in enumerate(features):
        values = rows[:, index]
        missing = np.isnan(values)
        if missing[within].any():
            yield _Split(index, f"{feature.name} missing", missing)
        if feature.type is FeatureType.CATEGORY:
            for code, word in enumerate((feature.categories or ())[:30]):
                yield _Split(index, f"{feature.name} = {word}", values == code)
        elif feature.type is FeatureType.BOOLEAN:
            for code, word in enumerate(("false", "true")):
                yield _Split(index, f"{feature.name} = {word}", values == code)
        else:
            held = values[within & np.isfinite(values)]
            if not len(held):
                continue
            for cut in np.unique(np.quantile(held, np.linspace(0, 1, _CUTS + 2)[1:-1])):
                yield _Split(index, f"{feature.name} > {cut:.4g}", values > cut)
                yield _Split(index, f"{feature.name} <= {cut:.4g}", values <= cut)
