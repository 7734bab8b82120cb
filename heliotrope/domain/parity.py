"""Does the served model answer as the trained one? A pure comparison of two sets of scores.

The trained model computes in float64, the served one in float32, so they differ in the seventh
digit; anything beyond `TOLERANCE` is a fault of the export or of the encoding of rows, and a
faulty export must never be registered.
"""

import numpy as np
import numpy.typing as npt

from heliotrope.domain.document import Document
from heliotrope.errors import ParityError
from heliotrope.vocabulary import Task

TOLERANCE = 1e-5
"""Largest difference of a score allowed: absolute for probabilities; for regression times
`max(1, largest absolute score)`, since float32 carries about seven digits of the label's scale."""

TIE = 1e-6
"""A trained score this near to the threshold (multiclass: two classes this near to each other) is
a tie: float32 sums may fall on either side and neither is wrong. Ties are counted, not failed; all
other changes of class fail, however small the difference of the scores."""


class ParityReport(Document):
    """What the comparison found."""

    rows: int
    max_difference: float
    """Largest absolute difference of a score; NaN if either side answered with NaN."""
    worst_row: int | None
    """Position of that row in the rows compared."""
    expected: float | None
    """The trained model's score there (multiclass: of the class that differs most)."""
    served: float | None
    """The served model's."""
    tolerance: float
    """What was allowed, in the score's unit."""
    flips: int
    """Rows whose class differs."""
    first_flip: int | None = None
    """Position of the first of them."""
    ties: int
    """Rows whose class differs, but whose trained score is a tie."""

    @property
    def passed(self) -> bool:
        """Whether the served model may stand for the trained one."""
        return self.rows > 0 and self.max_difference <= self.tolerance and self.flips == 0

    def __str__(self) -> str:
        """In numbers, for reports."""
        return (
            f"served scores of {self.rows:,} rows differ by at most {self.max_difference:.2g} "
            f"(allowed {self.tolerance:.2g}), {self.flips} class changes, {self.ties} ties"
        )

    def require(self) -> "ParityReport":
        """Answer with itself, or raise.

        Raises:
            ParityError: it did not pass; names the worst row and both its scores.
        """
        if self.passed:
            return self
        if self.rows == 0:
            raise ParityError("parity must be shown on at least one row. Got 0 rows.")
        if not self.max_difference <= self.tolerance:
            raise ParityError(
                f"the served score must be within {self.tolerance:.2g} of the trained one. "
                f"Got {self.served} instead of {self.expected} in row {self.worst_row}; {self}."
            )
        raise ParityError(
            f"the served class must be the trained one. It differs first in row "
            f"{self.first_flip}; {self}."
        )


def compare_scores(
    expected: npt.NDArray[np.floating],
    served: npt.NDArray[np.floating],
    task: Task,
    threshold: float | None = None,
) -> ParityReport:
    """Compare the scores of the trained and of the served model on the same rows.

    Args:
        expected: [rows], or [rows, classes] for multiclass, of the trained model.
        served: same shape, of the served model.
        task: what they mean.
        threshold: probability from which a row is positive (binary; 0.5 when None).

    Raises:
        ParityError: the shapes differ.

    >>> compare_scores(np.array([0.2, 0.7]), np.array([0.2, 0.4]), Task.BINARY).flips
    1
    """
    left, right = np.asarray(expected, dtype=np.float64), np.asarray(served, dtype=np.float64)
    if left.shape != right.shape:
        raise ParityError(
            f"the served scores must have the trained ones' shape {left.shape}. Got {right.shape}."
        )
    rows = left.shape[0]
    scale = max(1.0, float(np.abs(left).max(initial=0.0))) if task is Task.REGRESSION else 1.0
    worst: tuple[int, ...] | None = None
    if left.size:
        with np.errstate(invalid="ignore"):  # equal infinities
            difference = np.where(left == right, 0.0, np.abs(left - right))
        worst = tuple(int(i) for i in np.unravel_index(np.argmax(difference), left.shape))
    flipped, tied = _flips(left, right, task, 0.5 if threshold is None else threshold)
    flips = np.flatnonzero(flipped & ~tied)
    return ParityReport(
        rows=rows,
        max_difference=float(difference[worst]) if worst is not None else 0.0,
        worst_row=worst[0] if worst is not None else None,
        expected=float(left[worst]) if worst is not None else None,
        served=float(right[worst]) if worst is not None else None,
        tolerance=TOLERANCE * scale,
        flips=len(flips),
        first_flip=int(flips[0]) if len(flips) else None,
        ties=int(np.count_nonzero(flipped & tied)),
    )


def _flips(
    left: npt.NDArray[np.float64], right: npt.NDArray[np.float64], task: Task, threshold: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    if task is Task.BINARY:
        return (left >= threshold) != (right >= threshold), np.abs(left - threshold) <= TIE
    if task is Task.MULTICLASS and len(left):
        top = np.sort(left, axis=1)[:, -2:]
        return left.argmax(axis=1) != right.argmax(axis=1), top[:, 1] - top[:, 0] <= 2 * TIE
    none = np.zeros(len(left), dtype=np.bool_)
    return none, none
