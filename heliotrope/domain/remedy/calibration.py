"""What the model's scores meant when it was accepted: the loss to expect of each row."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from heliotrope.domain.remedy.rows import Floats
from heliotrope.vocabulary import Task

EDGE = 1e-3
"""Least probability taken; a rarer event is not known from some thousand rows."""
_BINS = 20


@dataclass(frozen=True, eq=False)
class Losses:
    """Of some rows."""

    true: Floats
    """[rows] with the labels as they are."""
    expected: Floats
    """[rows] if the reference's relation of score and label still holds."""
    chance: Floats | None = None
    """[rows] calibrated probability of the positive class (binary)."""

    @property
    def excess(self) -> Floats:
        """[rows] true less expected: its mean is the concept part."""
        return self.true - self.expected


@dataclass(frozen=True, eq=False)
class Calibration:
    """Fitted on labelled reference rows."""

    task: Task
    knots: Floats
    """Rising summaries of scores."""
    values: Floats
    """Probability (binary), or mean loss."""

    def losses(self, scores: Floats, labels: npt.NDArray[Any] | None) -> Losses:
        """Losses of rows; without labels the true loss is NaN."""
        at = np.interp(summary(self.task, scores), self.knots, self.values)
        if self.task is not Task.BINARY:
            true = np.full(len(at), np.nan) if labels is None else own_loss(
                self.task, scores, labels
            )  # fmt: skip
            return Losses(true, at)
        chance = np.clip(at, EDGE, 1 - EDGE)
        expected = -(chance * np.log(chance) + (1 - chance) * np.log1p(-chance))
        if labels is None:
            return Losses(np.full(len(at), np.nan), expected, chance)
        positive = labels == 1
        return Losses(np.where(positive, -np.log(chance), -np.log1p(-chance)), expected, chance)


def calibrate(task: Task, scores: Floats, labels: npt.NDArray[Any]) -> Calibration:
    """Isotonic for classes (Zadrozny and Elkan 2002), means of equal bins for regression.

    Args:
        task: what scores mean.
        scores: [rows] or [rows, classes].
        labels: [rows], all there.
    """
    place = summary(task, scores)
    target = (labels == 1).astype(np.float64) if task is Task.BINARY else own_loss(
        task, scores, labels
    )  # fmt: skip
    order = np.argsort(place, kind="stable")
    place, target = place[order], target[order]
    if task is Task.REGRESSION:
        parts = [p for p in np.array_split(np.arange(len(place)), _BINS) if len(p)]
        return Calibration(
            task,
            np.array([place[p].mean() for p in parts]),
            np.array([target[p].mean() for p in parts]),
        )
    fitted = isotonic_regression(target).x
    # One knot at each end of a step: between steps the probability is a line.
    keep = np.r_[True, fitted[1:] != fitted[:-1]] | np.r_[fitted[1:] != fitted[:-1], True]
    return Calibration(task, place[keep], _settled(fitted)[keep])


def _settled(fitted: Floats) -> Floats:
    # A step of few rows at either end is 0 or 1 by luck: each step is shrunk by half a success.
    _, where, counts = np.unique(fitted, return_inverse=True, return_counts=True)
    rows = counts[where]
    mean = float(fitted.mean())
    settled: Floats = (fitted * rows + mean) / (rows + 1.0)
    return settled


def summary(task: Task, scores: Floats) -> Floats:
    """One number a row that loss is a function of."""
    if task is not Task.MULTICLASS:
        return np.asarray(scores, dtype=np.float64)
    held = np.clip(scores, EDGE, 1.0)
    entropy: Floats = -(held * np.log(held)).sum(axis=1)
    return entropy


def own_loss(task: Task, scores: Floats, labels: npt.NDArray[Any]) -> Floats:
    """Log loss for classes, squared error for numbers, by the scores as they are."""
    if task is Task.REGRESSION:
        squared: Floats = np.square(np.asarray(scores, dtype=np.float64) - labels)
        return squared
    codes = labels.astype(np.intp)
    if task is Task.BINARY:
        right = np.where(codes == 1, scores, 1 - scores)
    else:
        right = scores[np.arange(len(codes)), codes]
    loss: Floats = -np.log(np.clip(right, EDGE, 1.0))
    return loss


def cross_fitted(task: Task, scores: Floats, labels: npt.NDArray[Any]) -> Losses:
    """Losses of the reference itself, each half by what the other half says.

    Judged by what it was fitted to, the reference would look better than any later rows can.
    """
    halves = np.arange(len(labels)) % 2
    true, expected = np.empty(len(labels)), np.empty(len(labels))
    chance = np.empty(len(labels))
    for half in (0, 1):
        here, other = halves == half, halves != half
        losses = calibrate(task, scores[other], labels[other]).losses(scores[here], labels[here])
        true[here], expected[here] = losses.true, losses.expected
        chance[here] = losses.chance if losses.chance is not None else 0.0
    return Losses(true, expected, chance if task is Task.BINARY else None)
