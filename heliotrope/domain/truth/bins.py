"""Score bins of a cell as vectors: what rankings and calibration are computed from."""

import numpy as np
import numpy.typing as npt

from heliotrope.domain.metrics import CALIBRATION_BINS
from heliotrope.domain.truth.cell import Part
from heliotrope.domain.truth.statistics import UNIT

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]


def mean_scores(part: Part) -> FloatVector:
    """[entries] the mean score of each entry's whole bin, so that entries of one bin tie."""
    rows = np.bincount(part.bin, part.n)
    total = np.bincount(part.bin, part.sums[:, 1].astype(np.float64))
    mean = np.divide(total, rows * UNIT, out=np.zeros_like(total), where=rows > 0)
    return np.asarray(np.clip(mean[part.bin], 0.0, 1.0), np.float64)


def by_bin(
    place: IntVector, weights: FloatVector, positive: npt.NDArray[np.bool_]
) -> tuple[FloatVector, FloatVector]:
    """Positive and negative weight of each bin, by rising score."""
    high = int(place.max(initial=0)) + 1
    return (
        np.bincount(place[positive], weights[positive], high).astype(np.float64),
        np.bincount(place[~positive], weights[~positive], high).astype(np.float64),
    )


def binning_error(part: Part) -> float:
    """Half the share of positive-negative pairs that share a bin; 0 with one class."""
    positive, negative = by_bin(part.bin, part.n.astype(np.float64), part.outcome == 1)
    pairs = positive.sum() * negative.sum()
    return float(positive @ negative / pairs / 2) if pairs else 0.0


class Calibration:
    """Scores beside what came, by bin and by ten groups of equally many rows."""

    def __init__(self, labelled: Part) -> None:
        weights = labelled.n.astype(np.float64)
        positive, negative = by_bin(labelled.bin, weights, labelled.outcome == 1)
        total = np.bincount(labelled.bin, labelled.sums[:, 1].astype(np.float64)) / UNIT
        used = (positive + negative) > 0
        self.positives, self.negatives = positive[used], negative[used]
        """[bins]."""
        self.rows = self.positives + self.negatives
        self.score = np.clip(total[used] / self.rows, 0.0, 1.0)
        """[bins] mean score."""
        before = np.cumsum(self.rows) - self.rows
        group = (before * CALIBRATION_BINS // self.rows.sum()).astype(np.int64)
        surplus = self.rows * self.score - self.positives
        self.gaps = np.bincount(group, surplus, minlength=CALIBRATION_BINS)
        """[groups] positives expected less those that came."""
        sizes = np.bincount(group, self.rows, minlength=CALIBRATION_BINS)
        hits = np.bincount(group, self.positives, minlength=CALIBRATION_BINS)
        share = hits / np.maximum(sizes, 1)
        self.variances = sizes * share * (1 - share)
        """[groups] of the number of positives."""

    @property
    def error(self) -> float:
        """Expected calibration error."""
        return float(np.abs(self.gaps).sum() / self.rows.sum())

    def spread(self) -> float:
        """Standard error of `error`: groups are drawn anew, 400 times with one fixed seed."""
        noise = np.random.default_rng(7).standard_normal((400, len(self.gaps)))
        drawn = np.abs(self.gaps + noise * np.sqrt(self.variances)).sum(axis=1)
        return float(drawn.std() / self.rows.sum())
