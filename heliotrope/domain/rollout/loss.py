"""Which loss a candidate is compared by: bounded, of single answers, and near the primary metric.

An AUC or an F1 is of many answers at once and cannot be paired by request; a proper score of the
probability stands in for it. Where the primary metric is itself a mean over answers, it is taken.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Task

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int32]

CLIP = 0.01
"""Log-loss takes no probability for smaller than this, so that one answer cannot decide alone."""
_WORST_LOG = -math.log(CLIP)
_SCALE_OF_MAE, _SCALE_OF_RMSE = 8.0, 6.0


class LossKind(StrEnum):
    """Losses of one answer, from 0 to 1."""

    ZERO_ONE = "zero_one"
    """1 for a wrong class."""
    LOG_LOSS = "log_loss"
    """Minus the logarithm of the true class's probability, clipped and scaled."""
    BRIER = "brier"
    """Squared distance of the probabilities from the truth; halved with three or more classes."""
    ABSOLUTE = "absolute_error"
    """Absolute error over the scale, at most 1."""
    SQUARED = "squared_error"
    """Squared error over the scale's square, at most 1."""


_LOSS_OF = {
    "accuracy": LossKind.ZERO_ONE,
    "log_loss": LossKind.LOG_LOSS,
    "roc_auc": LossKind.LOG_LOSS,
    "average_precision": LossKind.LOG_LOSS,
    "mae": LossKind.ABSOLUTE,
    "rmse": LossKind.SQUARED,
    "r2": LossKind.SQUARED,
}
"""By primary metric; all others are judged by Brier's score: on rare classes right or wrong says
little (nobody defaults: right 98 times in 100), and the probability says more."""


@dataclass(frozen=True)
class Loss:
    """A loss, and the mean gain that is to be shown in it."""

    kind: LossKind
    bound: float
    """Above this the gain is good enough; in the loss's unit, so from -1 to 1."""
    scale: float
    """Of an error in a regression; 1 otherwise."""
    text: str

    def of(self, called: Places, score: Floats, scores: Floats | None, label: Floats) -> Floats:
        """[rows] losses from 0 to 1; NaN where the score or the label is.

        Args:
            called: [rows] predicted class's place.
            score: as `Outcomes.score`.
            scores: [rows, classes], with three or more classes.
            label: [rows] the true class's place, or the number.
        """
        with np.errstate(invalid="ignore"):
            found = self._of(called, score, scores, label)
        return np.asarray(np.where(np.isnan(score) | np.isnan(label), np.nan, found))

    def _of(self, called: Places, score: Floats, scores: Floats | None, label: Floats) -> Floats:
        if self.kind is LossKind.ABSOLUTE:
            return np.asarray(np.minimum(np.abs(score - label) / self.scale, 1.0))
        if self.kind is LossKind.SQUARED:
            return np.asarray(np.minimum(((score - label) / self.scale) ** 2, 1.0))
        if self.kind is LossKind.ZERO_ONE:
            return np.asarray(called != label, dtype=np.float64)
        if scores is None:
            of_true = np.where(label == 1, score, 1 - score)
            distance = (1 - of_true) ** 2
        else:
            place = np.nan_to_num(label, nan=0.0).astype(np.int64)
            truth = np.eye(scores.shape[1])[place]
            of_true = scores[np.arange(len(place)), place]
            distance = ((scores - truth) ** 2).sum(axis=1) / 2
        if self.kind is LossKind.BRIER:
            return np.asarray(np.clip(distance, 0.0, 1.0))
        return np.asarray(-np.log(np.clip(of_true, CLIP, 1.0)) / _WORST_LOG)


def loss_for(spec: ModelSpec, error_scale: float | None) -> Loss:
    """The loss that stands for a spec's primary metric.

    `gates.tolerance` and `gates.margin` are in the metric's unit. Where the loss is the metric
    itself they are converted; for one that only stands in they are taken as a share of what
    knowing nothing would lose, since an AUC of 0.01 less is no Brier score of 0.01 more.

    Args:
        spec: of the model.
        error_scale: the error that counts as 1 (regression); see `scale_of_errors`.
    """
    primary, gates = spec.metrics.primary, spec.gates
    kind = _LOSS_OF.get(primary, LossKind.BRIER)
    scale = 1.0 if error_scale is None else error_scale
    demand = -gates.tolerance if gates.tolerance else gates.margin
    classes = max(len(spec.classes), 2)
    unit = {
        LossKind.ZERO_ONE: 1.0,
        LossKind.LOG_LOSS: 1 / _WORST_LOG,
        LossKind.BRIER: 1.0 if primary == "brier" else (1 - 1 / classes) / 2,
        LossKind.ABSOLUTE: 1 / scale,
        LossKind.SQUARED: 1 / scale if primary == "rmse" else 1.0,
    }[kind]
    if kind is LossKind.LOG_LOSS and primary != "log_loss":
        unit = math.log(classes) / _WORST_LOG
    bound = float(np.clip(demand * unit, -0.95, 0.95))
    return Loss(kind, bound, scale, _describe(kind, primary, scale, spec.task))


def scale_of_errors(spec: ModelSpec, metrics: Mapping[str, float]) -> float | None:
    """The error that counts as 1 in a regression, known before a rollout's first answer.

    Args:
        spec: of the model.
        metrics: of the champion's (or, without one, the candidate's) holdout.
    """
    if spec.task is not Task.REGRESSION:
        return None
    for name, times in (("mae", _SCALE_OF_MAE), ("rmse", _SCALE_OF_RMSE)):
        value = metrics.get(name, math.nan)
        if math.isfinite(value) and value > 0:
            return times * value
    low, high = spec.label.min, spec.label.max
    return high - low if low is not None and high is not None else 1.0


def _describe(kind: LossKind, primary: str, scale: float, task: Task) -> str:
    stands = "" if kind.value == primary or primary in ("accuracy", "mae") else f" for {primary}"
    if kind is LossKind.ZERO_ONE:
        return "0/1 error: 1 is a wrong class"
    if kind is LossKind.LOG_LOSS:
        return f"log-loss{stands}, probabilities clipped at {CLIP:g}: 1 is {_WORST_LOG:.2f} nats"
    if kind is LossKind.BRIER:
        halved = ", halved" if task is Task.MULTICLASS else ""
        return f"Brier score{stands}{halved}: 1 is certainty of a wrong class"
    name = "absolute" if kind is LossKind.ABSOLUTE else "squared"
    return f"{name} error{stands}, clipped: 1 is an error of {scale:g} or more"
