"""Do the rows as a whole differ, though no column does? A classifier tries to tell them apart.

Columns can keep their distributions while what goes with what changes. A classifier that is fitted
on one half of reference and live rows and beats chance on the other half has found a difference;
its ROC AUC there is a Mann-Whitney statistic with a p-value of its own (Lopez-Paz and Oquab,
"Revisiting classifier two-sample tests", ICLR 2017).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import mannwhitneyu

_WIDEST = 24
"""Columns of which products are looked at: their number grows with the square."""
_PENALTY = 5.0


@dataclass(frozen=True)
class JointSample:
    """Rows of both, in the model's own coding."""

    reference: npt.NDArray[np.float32]
    """[rows, features]; missing is NaN."""
    live: npt.NDArray[np.float32]
    """[rows, features]."""
    seed: int = 0


def tell_apart(joint: JointSample) -> tuple[float, float, int]:
    """ROC AUC on rows the classifier had not seen, its one-sided p-value, and live rows among them.

    Ridge regression on ranks, missing flags and products of ranks: enough for a changed dependence
    of two columns, closed form, and the same answer for the same seed.
    """
    if min(len(joint.reference), len(joint.live)) < 40:
        return 0.5, 1.0, len(joint.live) // 2
    rng = np.random.default_rng(joint.seed)
    rows = np.vstack([joint.reference, joint.live])
    labels = np.r_[np.zeros(len(joint.reference)), np.ones(len(joint.live))]
    order = rng.permutation(len(rows))
    rows, labels = rows[order], labels[order]
    half = len(rows) // 2
    ranks = _ranks(rows, rows[:half])
    design = _design(ranks)
    centre = design[:half].mean(axis=0)
    scale = design[:half].std(axis=0)
    design = (design - centre) / np.where(scale > 1e-9, scale, 1.0)
    fitted, target = design[:half], labels[:half] - labels[:half].mean()
    inner = fitted.T @ fitted + _PENALTY * np.sqrt(half) * np.eye(design.shape[1])
    scores = design[half:] @ np.linalg.solve(inner, fitted.T @ target)
    live, before = scores[labels[half:] == 1], scores[labels[half:] == 0]
    test = mannwhitneyu(live, before, alternative="greater")
    return float(test.statistic / (len(live) * len(before))), float(test.pvalue), len(live)


def _ranks(
    rows: npt.NDArray[np.float32], fitted: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    # Ranks among the fitted half: they are bounded, so one absurd value bends nothing.
    ranks = np.zeros((rows.shape[0], rows.shape[1] * 2))
    for column in range(rows.shape[1]):
        values, known = rows[:, column], np.sort(fitted[:, column])
        known = known[~np.isnan(known)]
        missing = np.isnan(values)
        if len(known):
            left = np.searchsorted(known, values, side="left")
            right = np.searchsorted(known, values, side="right")
            ranks[:, column] = np.where(missing, 0.0, (left + right) / len(known) - 1.0)
        ranks[:, rows.shape[1] + column] = missing
    return ranks


def _design(ranks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    width = min(ranks.shape[1] // 2, _WIDEST)
    first, second = np.triu_indices(width)
    return np.hstack([ranks, ranks[:, first] * ranks[:, second]])
