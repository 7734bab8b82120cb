"""Parts of the population, named as people read them and cut from the feature matrix."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from heliotrope.spec import Feature, FeatureType, ModelSpec, Slice

BoolVector = npt.NDArray[np.bool_]


def slice_masks(spec: ModelSpec, features: npt.NDArray[np.float32]) -> list[tuple[str, BoolVector]]:
    """Name and rows of every slice of a spec that holds a row.

    Args:
        spec: names the slices.
        features: [rows, features] in the spec's order: categories as positions, missing as NaN.

    Returns:
        Pairs of name and [rows] mask, such as `grade = C`, `income in [20000, 40000)` and
        `grade missing`.
    """
    by_name = {feature.name: (place, feature) for place, feature in enumerate(spec.features)}
    found: list[tuple[str, BoolVector]] = []
    for part in spec.slices:
        place, feature = by_name[part.feature]
        found += _masks(part, feature, features[:, place])
    return [(name, mask) for name, mask in found if mask.any()]


def _masks(
    part: Slice, feature: Feature, column: npt.NDArray[np.float32]
) -> list[tuple[str, BoolVector]]:
    name, missing = feature.name, np.isnan(column)
    if feature.type is FeatureType.CATEGORY:
        values = feature.categories or ()
        found = [(f"{name} = {value}", column == place) for place, value in enumerate(values)]
    elif feature.type is FeatureType.BOOLEAN:
        found = [(f"{name} = false", column == 0), (f"{name} = true", column == 1)]
    else:
        found = _bin_masks(name, part.bins or (), column)
    return [*found, (f"{name} missing", missing)]


def _bin_masks(
    name: str, edges: tuple[float, ...], column: npt.NDArray[np.float32]
) -> list[tuple[str, BoolVector]]:
    inner = [
        (f"{name} in [{low:g}, {high:g})", (column >= low) & (column < high))
        for low, high in pairwise(edges)
    ]
    first, last = edges[0], edges[-1]
    return [
        (f"{name} < {first:g}", column < first),
        *inner,
        (f"{name} >= {last:g}", column >= last),
    ]
