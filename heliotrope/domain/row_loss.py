"""What one wrong answer costs, from 0 to 1: what sequential tests of a model's quality watch.

A metric such as ROC AUC is no mean over rows, so no test can follow it row by row; the Brier score
of the same scores is, and rises when they rank or promise worse.
"""

from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.domain.document import Document
from heliotrope.domain.metrics import Answers
from heliotrope.domain.outcomes import Floats, FloatVector, Outcomes
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


class HoldoutLoss(Document):
    """What sequential tests watch, as a holdout showed it."""

    kind: LossKind
    rows: int
    total: float
    """Sum of the rows' losses."""
    squares: float
    """Sum of their squares."""
    scale: float = 1.0
    """Of `SCALED`, in the label's unit."""


def row_losses(kind: LossKind, rows: Outcomes, scale: float = 1.0) -> FloatVector:
    """[rows] losses of labelled rows, each in [0, 1].

    Args:
        kind: which.
        rows: all labelled.
        scale: of `SCALED`, in the label's unit.
    """
    scores = rows.score if rows.scores is None else rows.scores
    return _losses(kind, rows.label, scores, rows.prediction, scale)


def holdout_loss(kind: LossKind, answers: Answers) -> HoldoutLoss | None:
    """The losses of a holdout's rows, added up; None without a row, or where one has no loss."""
    if answers.rows == 0:
        return None
    labels, scale = np.asarray(answers.labels, np.float64), 1.0
    if kind is LossKind.SCALED:
        scale = SCALES * float(np.abs(answers.scores - labels).mean()) or 1.0
    losses = _losses(kind, labels, answers.scores, answers.decisions, scale)
    if not np.isfinite(losses).all():
        return None
    return HoldoutLoss(
        kind=kind, rows=len(losses), total=float(losses.sum()),
        squares=float((losses**2).sum()), scale=scale,
    )  # fmt: skip


def _losses(
    kind: LossKind,
    labels: FloatVector,
    scores: Floats,
    called: npt.NDArray[np.integer[Any]],
    scale: float,
) -> FloatVector:
    if kind is LossKind.ERROR:
        return np.asarray(called != labels, np.float64)
    if kind is LossKind.SCALED:
        return np.asarray(np.minimum(np.abs(scores - labels) / scale, 1.0))
    if scores.ndim == 1:
        return np.asarray((scores - labels) ** 2)
    truth = labels[:, None] == np.arange(scores.shape[1])
    # Scores are rounded to 32 bits on the way, so their sum may pass 1 by a hair.
    return np.asarray(np.minimum(((scores - truth) ** 2).sum(axis=1) / 2, 1.0))


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
