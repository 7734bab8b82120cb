"""What scores alone promise of a metric (CBPE), how far that is to be trusted, and when it is not.

Confidence-based performance estimation: a calibrated probability says how often a call is right,
so the mean over rows is the accuracy to expect, and rows counted fractionally as positive and
negative give any other metric of a binary model (Garg et al., "Leveraging unlabeled data to predict
out-of-distribution performance", ICLR 2022, section 2; NannyML's CBPE does the same). It is right
under covariate shift and blind to a changed relation of features and label, so it is a hint and
never a gate, and labels are asked whether it still holds:

- `log_evidence` is an e-value against "labels are drawn with the scores' probabilities": the mean,
  over a fixed grid of recalibrations, of the likelihood ratio. Its mean is at most 1 when scores
  are calibrated (binning only lowers it: the mean of scores in a bin bounds the product by the
  inequality of means).
- `Contradiction` chains windows as a CUSUM e-detector (Shin, Ramdas and Rinaldo, "E-detectors",
  2023): with calibrated scores the mean number of mature windows between two false marks is at
  least `RUN_LENGTH`, however often it is looked at.

That rests on labels being missing for reasons other than their value, which is so in mature windows
only; so only these are asked. A restated window is entered anew with all it has.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heliotrope.domain.metrics import Answers

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]

RUN_LENGTH = 1000.0
"""Mature windows between two false marks, on average, at least."""
CAP = 10 * RUN_LENGTH
"""Evidence is not kept beyond this, so that a few good windows take a mark away again."""
RELEVANT = 0.01
"""A miss of the primary metric smaller than this is no contradiction, however certain it is."""
UNMEASURED_CALIBRATION = 0.02
"""Calibration error taken where no mature label has measured it yet."""
ESTIMABLE = frozenset({
    "accuracy", "balanced_accuracy", "f1", "precision", "recall", "recall_at_precision", "roc_auc",
    "average_precision", "log_loss", "brier",
})  # fmt: skip
_PROBE = 0.01
_COARSE = 120
_SHIFTS = (-2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0)
_SLOPES = (0.0, 0.5, 0.75, 1.0, 1.25)
_EDGE = 1e-9


@dataclass(frozen=True)
class ScoredBins:
    """Predictions of a binary model, grouped by score bin and called class."""

    score: FloatVector
    """[groups] mean probability of the positive class."""
    called: IntVector
    """[groups] 0 or 1."""
    rows: FloatVector
    """[groups]."""

    def coarser(self) -> "ScoredBins":
        """The same in at most some 250 groups, for what need not be exact."""
        place = (np.sqrt(self.score) * _COARSE).astype(np.int64) * 2 + self.called
        rows = np.bincount(place, self.rows).astype(np.float64)
        used = rows > 0
        score = np.bincount(place, self.rows * self.score)[used] / rows[used]
        return ScoredBins(score, np.flatnonzero(used) % 2, rows[used])

    def expected(self, score: FloatVector | None = None) -> tuple[Answers, FloatVector]:
        """Answers and weights that count each row as positive and negative by its probability.

        Args:
            score: the probabilities believed, where these are not the scores themselves; the
                ranking and the calls stay the model's.
        """
        share = self.score if score is None else score
        groups = len(self.score)
        answers = Answers.binary(
            np.repeat([1, 0], groups), np.tile(self.score, 2), decisions=np.tile(self.called, 2)
        )
        return answers, np.concatenate([self.rows * share, self.rows * (1 - share)])


def promised(bins: ScoredBins, names: Sequence[str]) -> dict[str, float]:
    """The metrics to expect if scores are calibrated.

    >>> import numpy as np
    >>> bins = ScoredBins(np.array([0.1, 0.8]), np.array([0, 1]), np.array([50.0, 50.0]))
    >>> round(promised(bins, ["accuracy"])["accuracy"], 4)
    0.85
    """
    answers, weights = bins.expected()
    return answers.values([name for name in names if name in ESTIMABLE], weights)


def sensitivities(bins: ScoredBins, names: Sequence[str]) -> dict[str, float]:
    """How far each metric moves for a unit of calibration error, at worst of four ways to be off.

    Probabilities too high, too low, too extreme and too timid, each by .01 on average; accuracy
    cannot move by more than 1 for 1. A stated approximation for the others: calibration could be
    off in other ways.
    """
    bins = bins.coarser()
    values = promised(bins, names)
    logit = _logit(bins.score)
    centre = float(np.average(logit, weights=bins.rows))
    worst = dict.fromkeys(values, 0.0)
    for direction in (np.ones_like(logit), -np.ones_like(logit), logit - centre, centre - logit):
        believed = _moved(bins, logit, direction)
        change = _change(bins, believed)
        if change < _PROBE / 10:
            continue
        answers, weights = bins.expected(believed)
        for name, value in answers.values(list(values), weights).items():
            moved = abs(value - values[name])
            if math.isfinite(moved):
                worst[name] = max(worst[name], moved / change)
    return worst


def _change(bins: ScoredBins, believed: FloatVector) -> float:
    return float(np.average(np.abs(believed - bins.score), weights=bins.rows))


def _moved(bins: ScoredBins, logit: FloatVector, direction: FloatVector) -> FloatVector:
    # About _PROBE along `direction`: change grows nearly in proportion to the step, and the
    # result is divided by the change there is.
    step, believed = 0.05, bins.score
    for _ in range(4):
        believed = _expit(logit + step * direction)
        step = min(8.0, step * _PROBE / max(_change(bins, believed), 1e-6))
    return believed


def log_evidence(score: FloatVector, positives: FloatVector, negatives: FloatVector) -> float:
    """Logarithm of the e-value against calibrated scores.

    Args:
        score: [bins] mean score of the labelled rows of each bin, both classes together.
        positives: [bins] labelled rows that turned out positive.
        negatives: [bins] those that did not.
    """
    if positives.sum() + negatives.sum() == 0:
        return 0.0
    logit = _logit(score)
    base = _clip(score)
    shifts, slopes = np.meshgrid(_SHIFTS, _SLOPES)
    grid = _expit(shifts.ravel()[:, None] + slopes.ravel()[:, None] * logit[None, :])
    gains = np.log(grid / base) @ positives + np.log((1 - grid) / (1 - base)) @ negatives
    top = float(gains.max())
    return top + math.log(float(np.exp(gains - top).mean()))


@dataclass(frozen=True)
class Contradiction:
    """Whether mature labels contradict the scores, window after window."""

    log_level: float = 0.0
    marked: bool = False

    def after(self, evidence: float, miss: float) -> "Contradiction":
        """The state after one more mature window, in order of time.

        Args:
            evidence: the window's `log_evidence`.
            miss: estimate of the primary metric less its truth; NaN where either is undefined.
        """
        level = min(max(self.log_level, 0.0) + evidence, math.log(CAP))
        certain = level >= math.log(RUN_LENGTH)
        # NaN is no proof that the miss is small: with one class left, much has changed.
        small = abs(miss) <= RELEVANT
        return Contradiction(level, certain and (self.marked or not small))


def _clip(share: FloatVector) -> FloatVector:
    return np.clip(share, _EDGE, 1 - _EDGE)


def _logit(share: FloatVector) -> FloatVector:
    clipped = _clip(share)
    return np.log(clipped) - np.log1p(-clipped)


def _expit(value: FloatVector) -> FloatVector:
    return _clip(1 / (1 + np.exp(-np.clip(value, -40, 40))))
