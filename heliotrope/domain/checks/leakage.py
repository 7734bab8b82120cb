"""A single feature that gives the label away: known only after the outcome, or the label itself.

Every feature is scored alone. Numbers are ranked (missing values at either end, since a value
that is there only for one class leaks too) and binned; categories and bins are scored by the
label's rate in *the other half* of the rows, so that a column of unique values, which knows every
label by heart, scores as chance.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heliotrope.domain.quality import Finding, Level
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Task

BINS = 256
MINIMUM_CLASS = 5
"""Fewer rows of a class than this say nothing about a leak."""
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Leak:
    """How well one feature alone tells the label."""

    score: float
    measure: str
    """`ROC AUC`, `mean ROC AUC` or `rank correlation`."""
    equal: bool
    """Whether it is the label by other names: as many values, each with one label."""


def leak(values: Numbers, labels: Numbers, task: Task, category: bool) -> Leak | None:
    """Score one feature on sampled rows.

    Args:
        values: [rows] numbers or category codes, NaN where missing.
        labels: [rows] codes as `statistics.label_code` gives them, no NaN.
        task: of the model.
        category: whether the order of `values` means nothing.

    Returns:
        None where a class has fewer than five rows.
    """
    groups = _grouped(values, category)
    if task is Task.REGRESSION:
        if len(labels) < 2 * MINIMUM_CLASS or np.ptp(labels) == 0:
            return None
        ranked = 0.0 if category else abs(_correlation(_ranks(_filled(values, -1)), _ranks(labels)))
        score = max(ranked, _correlation(_other_half(groups, labels), labels))
        present = ~np.isnan(values)
        equal = not category and bool(present.all()) and np.array_equal(values, labels)
        return Leak(score, "rank correlation", equal)
    codes, counts = np.unique(labels, return_counts=True)
    if len(codes) < 2 or counts.min() < MINIMUM_CLASS:
        codes = codes[counts >= MINIMUM_CLASS]
        if len(codes) < 2:
            return None
        held = np.isin(labels, codes)
        return leak(values[held], labels[held], task, category)
    scored = codes[1:] if task is Task.BINARY else codes
    aucs = [roc_auc(_other_half(groups, (labels == c).astype(float)), labels == c) for c in scored]
    score = float(np.mean(aucs))
    if task is Task.BINARY and not category:
        hits = labels == codes[1]
        for side in (-1, 1):
            auc = roc_auc(_filled(values, side), hits)
            score = max(score, auc, 1 - auc)
    equal = len(np.unique(groups)) == len(codes) and _pure(groups, labels)
    return Leak(score, "ROC AUC" if task is Task.BINARY else "mean ROC AUC", equal)


def leakage(spec: ModelSpec, name: str, found: Leak | None, rows: int) -> list[Finding]:
    """A fatal finding when the score reaches `validation.leakage_score`."""
    if found is None or found.score < spec.validation.leakage_score:
        return []
    what = f"equals the label {spec.label.name} in other words" if found.equal else (
        f"alone tells the label {spec.label.name}"
    )  # fmt: skip
    message = (
        f"feature {name} must not give the label away. It {what}: {found.measure} "
        f"{found.score:.4f} on {rows:,} rows, allowed below {spec.validation.leakage_score:g} "
        "(validation.leakage_score). Leave it out if it is known only after the outcome."
    )
    return [Finding(check="leakage", level=Level.FATAL, column=name, message=message, rows=rows)]


def roc_auc(scores: Numbers, positive: npt.NDArray[np.bool_]) -> float:
    """ROC AUC by ranks, ties counted half.

    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    hits = int(positive.sum())
    misses = len(positive) - hits
    if not hits or not misses:
        return 0.5
    ranks = _ranks(scores)
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def _ranks(values: Numbers) -> Numbers:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middle: Numbers = (ends - (counts - 1) / 2)[inverse]
    return middle


def _filled(values: Numbers, side: int) -> Numbers:
    return np.nan_to_num(values, nan=side * np.inf, posinf=np.inf, neginf=-np.inf)


def _grouped(values: Numbers, category: bool) -> npt.NDArray[np.int64]:
    present = ~np.isnan(values)
    distinct = np.unique(values[present])
    if not category and len(distinct) > BINS:
        finite = values[present][np.isfinite(values[present])]
        distinct = np.unique(np.quantile(finite, np.linspace(0, 1, BINS)))
    groups = np.searchsorted(distinct, values, side="right").astype(np.int64)
    groups[~present] = -1
    _, codes = np.unique(groups, return_inverse=True)
    return codes.astype(np.int64)


def _other_half(groups: npt.NDArray[np.int64], target: Numbers) -> Numbers:
    size = int(groups.max()) + 1 if len(groups) else 0
    half = np.arange(len(groups)) % 2
    scores = np.empty(len(groups))
    for side in (0, 1):
        learn, score = half != side, half == side
        prior = float(target[learn].mean()) if learn.any() else 0.0
        rows = np.bincount(groups[learn], minlength=size)
        total = np.bincount(groups[learn], weights=target[learn], minlength=size)
        # One imaginary row at the prior: an unseen group scores as the average does.
        scores[score] = ((total + prior) / (rows + 1))[groups[score]]
    return scores


def _pure(groups: npt.NDArray[np.int64], labels: Numbers) -> bool:
    pairs = np.unique(np.stack([groups.astype(float), labels]), axis=1)
    return int(pairs.shape[1]) == len(np.unique(groups)) == len(np.unique(labels))


def _correlation(first: Numbers, second: Numbers) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
