"""How far a column moved, in units that mean the same for every column and any number of rows."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from heliotrope.domain.drift.sketch import ColumnSketch, part_means
from heliotrope.domain.drift.window import Floats


def wasserstein(reference: ColumnSketch, ordered: Floats) -> float:
    """Wasserstein-1 distance over the reference's standard deviation.

    What Evidently calls `wasserstein`, within .001 on the same rows: the mean distance of the
    quantile functions, part by part (Vallender 1974).

    Args:
        reference: of a number.
        ordered: finite values, rising; at least one.
    """
    before = np.asarray(reference.points)
    now = part_means(ordered, len(before))
    return float(np.abs(now - before).mean()) / reference.spread


def jensen_shannon(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Jensen-Shannon distance in nats: 0 for equal shares, sqrt(ln 2) = .83 for nothing in common.

    What Evidently calls `jensenshannon` for categories (Lin 1991).

    Args:
        before: rows, or shares, of each value.
        now: the same of the window.

    >>> round(jensen_shannon({"a": 1}, {"b": 3}), 3)
    0.833
    """
    names = sorted({*before, *now})
    p = _shares([before.get(name, 0) for name in names])
    q = _shares([now.get(name, 0) for name in names])
    middle = (p + q) / 2
    divergence = (_entropy(p, middle) + _entropy(q, middle)) / 2
    return float(np.sqrt(max(0.0, divergence)))


def _shares(counts: list[float]) -> npt.NDArray[np.float64]:
    array = np.asarray(counts, dtype=np.float64)
    return array / max(float(array.sum()), 1e-300)


def _entropy(p: npt.NDArray[np.float64], middle: npt.NDArray[np.float64]) -> float:
    there = p > 0
    return float(np.sum(p[there] * np.log(p[there] / middle[there])))


def clip_outliers(reference: ColumnSketch, values: Floats) -> tuple[Floats, int]:
    """Values no farther out of the reference's range than that range is wide, and how many were.

    One value of 1e9 would else be a distance of half a million; it is counted, and not averaged.
    """
    low, high = reference.minimum or 0.0, reference.maximum or 0.0
    if low == high:
        return values, 0
    room = high - low
    if values.min() >= low - room and values.max() <= high + room:
        return values, 0
    outside = int(((values < low - room) | (values > high + room)).sum())
    if outside:
        values = np.clip(values, low - room, high + room)
    return values, outside
