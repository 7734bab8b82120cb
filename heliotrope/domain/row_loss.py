"""What one wrong answer costs, from 0 to 1: what sequential tests of a model's quality watch.

A metric such as ROC AUC is no mean over rows, so no test can follow it row by row; the Brier score
of the same scores is, and rises when they rank or promise worse.
"""

from enum import StrEnum

import numpy as np

from heliotrope.domain.outcomes import FloatVector, Outcomes
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Task

SCALES = 8.0
"""A regression's error counts in full from so many times its accepted mean on."""


class LossKind(StrEnum):
    """How a row is counted."""

    ERROR = "error"
    """1 where the predicted class is wrong, else 0."""
    BRIER = "brier"
    """Squared error of the probabilities; half of its sum over three classes or more."""
    SCALED = "scaled error"
    """Absolute error over a scale, at most 1."""


def loss_kind(spec: ModelSpec) -> LossKind:
    """What is watched of a model: errors where accuracy is its primary metric."""
    if spec.task is Task.REGRESSION:
        return LossKind.SCALED
    return LossKind.ERROR if spec.metrics.primary == "accuracy" else LossKind.BRIER


def row_losses(kind: LossKind, rows: Outcomes, scale: float = 1.0) -> FloatVector:
    """[rows] losses of labelled rows, each in [0, 1].

    Args:
        kind: which.
        rows: all labelled.
        scale: of `SCALED`, in the label's unit.
    """
    if kind is LossKind.ERROR:
        return np.asarray(rows.prediction != rows.label, np.float64)
    if kind is LossKind.SCALED:
        return np.asarray(np.minimum(np.abs(rows.score - rows.label) / scale, 1.0))
    if rows.scores is None:
        return np.asarray((rows.score - rows.label) ** 2)
    truth = rows.label[:, None] == np.arange(rows.scores.shape[1])
    # Scores are rounded to 32 bits on the way, so their sum may pass 1 by a hair.
    return np.asarray(np.minimum(((rows.scores - truth) ** 2).sum(axis=1) / 2, 1.0))


def floor_as_loss(spec: ModelSpec, scale: float) -> float | None:
    """The spec's floor as a mean loss; None without one, or where the metric is no mean of losses.

    >>> from heliotrope.spec import parse_spec
    >>> spec = parse_spec("{name: m, task: binary, label: {name: y, positive: 1}, "
    ...     "source: {path: x.csv}, features: [{name: a, type: float}], "
    ...     "metrics: {primary: accuracy}, monitoring: {floor: 0.9}}")
    >>> round(floor_as_loss(spec, 1.0), 9)
    0.1
    """
    floor = spec.monitoring.floor
    if floor is None:
        return None
    loss = {"accuracy": 1 - floor, "brier": floor, "mae": floor / scale}.get(spec.metrics.primary)
    return loss if loss is not None and 0 < loss < 1 else None
