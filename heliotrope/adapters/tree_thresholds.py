"""Makes fitted trees decide the same in float64 and in float32.

scikit-learn keeps a threshold as float64, often the midpoint of two values; a served graph keeps it
as float32. For a float32 value x and a float64 threshold t, `x <= t` holds exactly when
`x <= t'`, where t' is the largest float32 not above t. So rounding every threshold *down* changes
no decision on float32 input, and afterwards both sides hold the very same number.
"""

from typing import Any

import numpy as np
import numpy.typing as npt


def round_down(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The largest float32 not above each value, as float64; infinities and NaN stay.

    >>> bool(round_down(np.array([0.1]))[0] <= 0.1)
    True
    """
    with np.errstate(over="ignore"):
        nearest = thresholds.astype(np.float32)
    above = nearest.astype(np.float64) > thresholds
    nearest[above] = np.nextafter(nearest[above], np.float32(-np.inf))
    return nearest.astype(np.float64)


def round_thresholds(estimator: Any) -> int:
    """Round the thresholds of every tree within a fitted estimator, in place.

    Looks into pipelines, ensembles and meta-estimators. Covers HistGradientBoosting (its
    predictors' nodes) and everything built on scikit-learn's `Tree`.

    Returns:
        How many trees were rounded.
    """
    trees = 0
    for part in _parts(estimator, set()):
        for tree in _hist_trees(part):
            inner = tree.nodes["is_leaf"] == 0
            values = tree.nodes["num_threshold"]
            values[inner] = round_down(values[inner])
            trees += 1
        plain = getattr(part, "tree_", None)
        if plain is not None and hasattr(plain, "threshold"):
            inner = plain.children_left != plain.children_right
            plain.threshold[inner] = round_down(plain.threshold[inner])
            trees += 1
    return trees


def forget_threads(estimator: Any) -> None:
    """Drop the number of threads a gradient boosting was fitted with, in place.

    It is the one thing in a fitted model that depends on the machine: neither trees nor scores do.
    """
    for part in _parts(estimator, set()):
        mapper = getattr(part, "_bin_mapper", None)
        if mapper is not None:
            mapper.n_threads = None


def _hist_trees(estimator: Any) -> list[Any]:
    return [tree for stage in getattr(estimator, "_predictors", []) for tree in stage]


def _parts(value: Any, seen: set[int]) -> list[Any]:
    """Every estimator reachable through attributes, lists, tuples and arrays of estimators."""
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, dict):
        return [part for inner in value.values() for part in _parts(inner, seen)]
    if isinstance(value, list | tuple) or (
        isinstance(value, np.ndarray) and value.dtype == np.object_
    ):
        return [part for inner in value for part in _parts(inner, seen)]
    if not type(value).__module__.startswith("sklearn.") or not hasattr(value, "__dict__"):
        return []
    inside = [part for inner in vars(value).values() for part in _parts(inner, seen)]
    return [value, *inside]
