"""Do labels depend on the features in another way than before?

A ridge regression of what the labels say beyond their probability on the features, fitted on one
half of the rows and asked on the other. Labels flipped at random leave nothing to find; a changed
world does.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from heliotrope.domain.remedy.rows import FloatMatrix, Floats
from heliotrope.spec import Feature, FeatureType

_PENALTY = 20.0


def hidden_structure(
    features: Sequence[Feature], rows: FloatMatrix, residual: Floats, seed: int = 0
) -> tuple[float, float]:
    """Standard errors by which features foretell the residual of rows not fitted to, and how much.

    Args:
        features: of the spec.
        rows: [rows, features].
        residual: [rows] label less probability.
        seed: of the halves.

    Returns:
        z, about N(0, 1) where there is nothing to find, and the share of the residual's variance
        that is found.
    """
    if len(residual) < 200:
        return 0.0, 0.0
    design = _design(features, rows)
    fold = np.random.default_rng(seed).permutation(len(residual)) % 2
    foretold = np.zeros(len(residual))
    for part in (0, 1):
        here, other = fold == part, fold != part
        x, y = design[other], residual[other]
        middle = y.mean()
        inner = x.T @ x + _PENALTY * np.eye(x.shape[1])
        foretold[here] = middle + design[here] @ np.linalg.solve(inner, x.T @ (y - middle))
    product = foretold * residual
    z = float(product.sum()) / max(float(np.sqrt(np.square(product).sum())), 1e-12)
    variance = float(np.square(residual).sum())
    found = 1 - float(np.square(residual - foretold).sum()) / max(variance, 1e-12)
    return (z if math.isfinite(z) else 0.0), found


def _design(features: Sequence[Feature], rows: FloatMatrix) -> npt.NDArray[np.float64]:
    columns: list[Floats] = []
    for index, feature in enumerate(features):
        values = rows[:, index].astype(np.float64)
        missing = ~np.isfinite(values)
        if missing.any():
            columns.append(missing.astype(np.float64))
        if feature.type is FeatureType.CATEGORY:
            columns += [(values == c) * 1.0 for c in range(min(len(feature.categories or ()), 30))]
            continue
        held = np.sort(values[~missing])
        if not len(held):
            continue
        left = np.searchsorted(held, values, side="left")
        right = np.searchsorted(held, values, side="right")
        rank = np.where(missing, 0.0, (left + right) / len(held) - 1.0)
        columns += [rank, np.square(rank)]
    design = np.stack(columns, axis=1)
    design -= design.mean(axis=0)
    spread = design.std(axis=0)
    kept: npt.NDArray[np.float64] = design[:, spread > 1e-9] / spread[spread > 1e-9]
    return kept
