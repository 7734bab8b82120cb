"""Every metric of the catalogue, weighted, so that a bootstrap resample is a vector of weights.

scikit-learn's metrics sort the scores on every call; a thousand resamples of twenty thousand rows
would sort a thousand times. `Answers` sorts once and then answers any weighting with a take, a
cumulative sum and a few dot products. Values equal scikit-learn's to rounding, ties included
(tests compare them), except that what is undefined is NaN here instead of 0 and a warning.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

from heliotrope.domain.ranking import Ranking, dot
from heliotrope.vocabulary import Task

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]

REQUIRED_PRECISION = 0.5
"""What `recall_at_precision` asks of the precision."""
CALIBRATION_BINS = 10
"""Equal-count bins of `calibration_error`."""

_FROM_CONFUSION = ("accuracy", "balanced_accuracy", "f1", "precision", "recall")
_FROM_RANKING = ("roc_auc", "average_precision", "recall_at_precision")

ROW_MEANS = frozenset({"accuracy", "log_loss", "brier", "calibration_error", "mae", "rmse", "r2"})
"""Metrics that average over all rows; the others rest on the rows of each class."""


@dataclass(frozen=True)
class Answers:
    """One model's answers to labelled rows. Build with `binary`, `multiclass` or `regression`."""

    task: Task
    labels: FloatVector | IntVector
    """[rows]: class positions, or values for regression."""
    scores: FloatVector
    """[rows] probability of the positive class or value; [rows, classes] for multiclass."""
    decisions: IntVector
    """[rows] class positions; empty for regression."""
    classes: int
    """How many classes; 0 for regression."""
    finite: bool
    """False when a score is NaN or infinite: every metric is then NaN."""
    rankings: tuple[Ranking, ...] = field(repr=False)
    row_losses: dict[str, FloatVector] = field(repr=False)
    bins: IntVector = field(repr=False)

    @classmethod
    def binary(
        cls,
        labels: npt.ArrayLike,
        scores: npt.ArrayLike,
        threshold: float = 0.5,
        decisions: npt.ArrayLike | None = None,
    ) -> Self:
        """Answers of a binary model.

        Args:
            labels: [rows] of 0 and 1.
            scores: [rows] probability of class 1.
            threshold: a row is called positive from this probability on.
            decisions: [rows] of 0 and 1 for a model whose calls do not follow from the threshold.
        """
        truth, score = np.asarray(labels, np.int64), np.asarray(scores, np.float64)
        called = (score >= threshold) if decisions is None else np.asarray(decisions)
        positive = truth == 1
        ranking = Ranking.of(positive, score)
        clipped = np.clip(score, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
        losses = {
            "log_loss": -np.where(positive, np.log(clipped), np.log1p(-clipped)),
            "brier": (score - truth) ** 2,
            "gap": score - truth,
        }
        return cls(
            Task.BINARY,
            truth,
            score,
            called.astype(np.int64),
            2,
            bool(np.isfinite(score).all()),
            (ranking,),
            losses,
            equal_count_bins(score, CALIBRATION_BINS),
        )

    @classmethod
    def multiclass(
        cls,
        labels: npt.ArrayLike,
        scores: npt.ArrayLike,
        decisions: npt.ArrayLike | None = None,
    ) -> Self:
        """Answers of a multiclass model: labels are class positions, scores [rows, classes]."""
        truth, score = np.asarray(labels, np.int64), np.asarray(scores, np.float64)
        called = np.argmax(score, axis=1) if decisions is None else np.asarray(decisions)
        eps = np.finfo(np.float64).eps
        share = np.clip(score, eps, 1 - eps)
        own = share[np.arange(len(truth)), truth] / share.sum(axis=1)
        rankings = tuple(
            Ranking.of(truth == position, score[:, position]) for position in range(score.shape[1])
        )
        return cls(
            Task.MULTICLASS,
            truth,
            score,
            called.astype(np.int64),
            score.shape[1],
            bool(np.isfinite(score).all()),
            rankings,
            {"log_loss": -np.log(own)},
            np.empty(0, np.int64),
        )

    @classmethod
    def regression(cls, labels: npt.ArrayLike, scores: npt.ArrayLike) -> Self:
        """Answers of a regression: labels and scores are [rows] values."""
        truth, score = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
        error = score - truth
        losses = {"mae": np.abs(error), "squared": error**2}
        return cls(
            Task.REGRESSION,
            truth,
            score,
            np.empty(0, np.int64),
            0,
            bool(np.isfinite(score).all()),
            (),
            losses,
            np.empty(0, np.int64),
        )

    def take(self, rows: npt.NDArray[np.bool_] | IntVector) -> "Answers":
        """The answers to some of the rows, chosen by mask or by position."""
        labels, scores = self.labels[rows], self.scores[rows]
        if self.task is Task.REGRESSION:
            return Answers.regression(labels, scores)
        decisions = self.decisions[rows]
        if self.task is Task.BINARY:
            return Answers.binary(labels, scores, decisions=decisions)
        return Answers.multiclass(labels, scores, decisions=decisions)

    @property
    def rarest(self) -> int:
        """Rows of the rarest class that is there; all rows for regression."""
        if self.classes == 0:
            return self.rows
        counts = np.bincount(self.labels.astype(np.int64), minlength=self.classes)
        return int(counts[counts > 0].min()) if self.rows else 0

    @property
    def rows(self) -> int:
        """How many rows were answered."""
        return len(self.labels)

    def values(self, names: Sequence[str], weights: FloatVector | None = None) -> dict[str, float]:
        """The named metrics, each row counted `weights` times; NaN where one is undefined.

        Args:
            names: of `heliotrope.spec.metrics.METRICS`, fitting the task.
            weights: [rows], not negative; one each when left out.
        """
        if not self.finite or self.rows == 0:
            return dict.fromkeys(names, np.nan)
        weight = np.ones(self.rows) if weights is None else weights
        total = float(weight.sum())
        if total <= 0:
            return dict.fromkeys(names, np.nan)
        wanted = set(names)
        found: dict[str, float] = {}
        if wanted.intersection(_FROM_CONFUSION):
            found |= _confusion_metrics(self.confusion(weight), self.task)
        if wanted.intersection(_FROM_RANKING):
            found |= self._ranking_metrics(weight, wanted)
        found |= self._mean_metrics(weight, total, wanted)
        return {name: found[name] for name in names}

    def confusion(self, weights: FloatVector | None = None) -> FloatVector:
        """[classes, classes] weight of each true (row) and called (column) class."""
        size = self.classes
        cells = np.bincount(
            self.labels.astype(np.int64, copy=False) * size + self.decisions,
            weights,
            minlength=size * size,
        )
        return cells.reshape(size, size).astype(np.float64, copy=False)

    def _ranking_metrics(self, weight: FloatVector, wanted: set[str]) -> dict[str, float]:
        if self.task is Task.MULTICLASS:
            areas = [r.counts(weight).roc_auc() for r in self.rankings]
            return {"roc_auc": float(np.mean(areas))}
        counts = self.rankings[0].counts(weight)
        found: dict[str, float] = {}
        if "roc_auc" in wanted:
            found["roc_auc"] = counts.roc_auc()
        if "average_precision" in wanted:
            found["average_precision"] = counts.average_precision()
        if "recall_at_precision" in wanted:
            found["recall_at_precision"] = counts.recall_at_precision(REQUIRED_PRECISION)
        return found

    def _mean_metrics(
        self, weight: FloatVector, total: float, wanted: set[str]
    ) -> dict[str, float]:
        found: dict[str, float] = {
            name: dot(weight, self.row_losses[name]) / total
            for name in ("log_loss", "brier", "mae")
            if name in wanted and name in self.row_losses
        }
        if "calibration_error" in wanted:
            gaps = np.bincount(self.bins, weight * self.row_losses["gap"])
            found["calibration_error"] = float(np.abs(gaps).sum()) / total
        if wanted.intersection(("rmse", "r2")):
            squared = dot(weight, self.row_losses["squared"])
            found["rmse"] = float(np.sqrt(squared / total))
            labels = np.asarray(self.labels, np.float64)
            mean = dot(weight, labels) / total
            spread = dot(weight, (labels - mean) ** 2)
            found["r2"] = 1 - squared / spread if spread > 0 else np.nan
        return found


def _confusion_metrics(cells: FloatVector, task: Task) -> dict[str, float]:
    hits, actual, called = np.diag(cells), cells.sum(axis=1), cells.sum(axis=0)
    there = actual > 0
    recalls = hits[there] / actual[there]
    found = {
        "accuracy": float(hits.sum() / cells.sum()),
        "balanced_accuracy": float(recalls.mean()) if there.sum() > 1 else np.nan,
    }
    if task is Task.BINARY:
        found["precision"] = _ratio(hits[1], called[1])
        found["recall"] = _ratio(hits[1], actual[1])
        found["f1"] = _ratio(2 * hits[1], actual[1] + called[1])
    else:
        seen = (actual + called) > 0
        found["f1"] = float(np.mean(2 * hits[seen] / (actual + called)[seen]))
    return found


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else np.nan


def equal_count_bins(scores: FloatVector, bins: int) -> IntVector:
    """[rows] the bin of each score; bins hold equally many rows, equal scores share a bin.

    A bootstrap keeps the bins of the sample: binning every resample anew would cost a sort each
    and moves the error by less than its interval is wide.
    """
    ordered = np.sort(scores)
    rank = np.searchsorted(ordered, scores, side="left")
    return (rank * bins // max(len(scores), 1)).astype(np.int64)
