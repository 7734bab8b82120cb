"""Rows in order of their score: what ROC, precision-recall and their areas are computed from."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]
BoolVector = npt.NDArray[np.bool_]


def dot(left: FloatVector, right: FloatVector) -> float:
    """Sum of products without BLAS, whose threads cost more than they gain at these lengths:
    twentyfold where other processes hold the cores."""
    return float(np.einsum("i,i->", left, right))


@dataclass(frozen=True, slots=True)
class Counts:
    """Weight of true and false positives when everything above each distinct score is called.

    Both [distinct scores], from the highest score to the lowest.
    """

    true_positives: FloatVector
    false_positives: FloatVector

    @property
    def positives(self) -> float:
        """Weight of all positive rows."""
        return float(self.true_positives[-1])

    @property
    def negatives(self) -> float:
        """Weight of all negative rows."""
        return float(self.false_positives[-1])

    def roc_auc(self) -> float:
        """Chance that a positive scores above a negative, ties half; NaN with one class."""
        if self.positives <= 0 or self.negatives <= 0:
            return float("nan")
        tp, fp = self.true_positives, self.false_positives
        inner = dot(np.diff(fp), tp[1:] + tp[:-1])
        area = (inner + float(fp[0] * tp[0])) / 2
        return area / (self.positives * self.negatives)

    def precision(self) -> FloatVector:
        """Precision at each distinct score; 0 where nothing has any weight yet."""
        called = self.true_positives + self.false_positives
        return np.divide(self.true_positives, called, out=np.zeros_like(called), where=called > 0)

    def average_precision(self) -> float:
        """Area under the precision-recall steps, not interpolated; NaN without positives."""
        if self.positives <= 0:
            return float("nan")
        gained = np.diff(self.true_positives, prepend=0.0)
        return dot(gained, self.precision()) / self.positives

    def recall_at_precision(self, precision: float) -> float:
        """Largest recall at this precision or more; 0 when never met, NaN without positives."""
        if self.positives <= 0:
            return float("nan")
        enough = self.precision() >= precision
        return float(np.max(self.true_positives[enough], initial=0.0)) / self.positives


@dataclass(frozen=True, slots=True)
class Ranking:
    """The order of one score, computed once."""

    order: IntVector
    """[rows] positions from the highest score to the lowest."""
    positive: FloatVector
    """[rows] 1 for a positive row, in that order."""
    ends: IntVector | None
    """Last place of each group of equal scores; None when no two are equal."""
    thresholds: FloatVector
    """[distinct scores], falling."""

    @classmethod
    def of(cls, positive: BoolVector, scores: FloatVector) -> Self:
        """Rank rows by score; `positive` tells which are of the class that should rank high."""
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        last = np.flatnonzero(np.append(np.diff(ordered) != 0, np.ones(min(1, len(ordered)), bool)))
        ends = None if len(last) == len(ordered) else last
        return cls(order, positive[order].astype(np.float64), ends, ordered[last])

    def counts(self, weights: FloatVector) -> Counts:
        """Cumulative counts under row weights given in the rows' own order."""
        weight = weights[self.order]
        true = np.cumsum(weight * self.positive)
        false = np.cumsum(weight) - true
        if self.ends is not None:
            true, false = true[self.ends], false[self.ends]
        return Counts(true, false)
