"""How much a model leans on each feature: loss added when the feature's column is shuffled.

Permutation importance (Breiman 2001, "Random forests"; Fisher, Rudin and Dominici 2019) asks any
model the same question, needs no retraining, and is measured on rows the model was not fitted on.
Correlated features share their importance, so read it as reliance and not as cause.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.vocabulary import Task

Score = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]]

ROWS = 5_000
"""Rows looked at: enough for shares of a few per cent, and seconds for wide models."""


def loss(task: Task, scores: npt.NDArray[np.float64], labels: npt.NDArray[Any]) -> float:
    """Mean log loss in nats for classes, mean squared error for numbers; probabilities clipped."""
    if task is Task.REGRESSION:
        return float(np.mean(np.square(scores - labels)))
    codes = labels.astype(np.intp)
    if task is Task.BINARY:
        right = np.where(codes == 1, scores, 1 - scores)
    else:
        right = scores[np.arange(len(codes)), codes]
    return float(-np.mean(np.log(np.clip(right, 1e-12, 1.0))))


def sample_rows(rows: int, seed: int, at_most: int = ROWS) -> npt.NDArray[np.intp]:
    """Positions of at most so many rows, drawn without replacement, in order."""
    if rows <= at_most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, at_most, replace=False))


def permutation_importance(
    score: Score,
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[Any],
    task: Task,
    names: Sequence[str],
    seed: int,
) -> dict[str, float]:
    """Share of each feature in the loss that shuffling adds, largest first, summing to 1.

    Args:
        score: the model on a float32 matrix.
        features: [rows, len(names)]; at most `ROWS` of them are used.
        labels: [rows] class codes, or values.
        task: what the scores mean.
        names: of the columns.
        seed: of sample and shuffles.

    Returns:
        Empty where no shuffle adds loss: the model leans on nothing.
    """
    picked = sample_rows(len(features), seed)
    matrix, truth = features[picked].copy(), labels[picked]
    base = loss(task, score(matrix), truth)
    repeats = 3 if len(names) <= 100 else 1
    added: dict[str, float] = {}
    for column, name in enumerate(names):
        rng = np.random.default_rng([seed, column])
        kept = matrix[:, column].copy()
        losses = []
        for _ in range(repeats):
            matrix[:, column] = rng.permutation(kept)
            losses.append(loss(task, score(matrix), truth))
        matrix[:, column] = kept
        added[name] = max(0.0, float(np.mean(losses)) - base)
    total = sum(added.values())
    if total <= 0:
        return {}
    ranked = sorted(added.items(), key=lambda item: (-item[1], item[0]))
    return {name: value / total for name, value in ranked}
