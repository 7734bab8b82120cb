"""Metrics of several classes from a cell."""

import math

import numpy as np

from heliotrope.domain.evaluation import MetricValue
from heliotrope.domain.metrics import Answers
from heliotrope.domain.truth import intervals
from heliotrope.domain.truth.bins import FloatVector, binning_error, by_bin, mean_scores
from heliotrope.domain.truth.cell import Cell, Part
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.domain.truth.statistics import CLASS, SQUARE_UNIT, UNIT

DRAWS = 400
_SEED = 7
"""Fixed, so that a cell always folds to the same interval."""


def multiclass_metrics(
    cell: Cell, labelled: Part, plan: TruthPlan
) -> tuple[dict[str, MetricValue], float]:
    """The plan's metrics with intervals, and the binning error of the ROC AUC."""
    found: dict[str, MetricValue] = {}
    size = len(plan.classes)
    names = [n for n in plan.metrics if n in ("accuracy", "balanced_accuracy", "f1")]
    weights = labelled.n.astype(np.float64)
    found |= _confusion_metrics(labelled, weights, size, names)
    error = 0.0
    if "roc_auc" in plan.metrics:
        found["roc_auc"], error = _macro_area(cell, size)
    if "log_loss" in plan.metrics:
        total = labelled.sums.sum(axis=0)
        rows = int(total[0])
        found["log_loss"] = intervals.mean(
            int(total[4]) / UNIT / rows, int(total[5]) / SQUARE_UNIT / rows, rows
        )
    return {name: found[name] for name in plan.metrics}, error


def _confusion_metrics(
    labelled: Part, weights: FloatVector, size: int, names: list[str]
) -> dict[str, MetricValue]:
    if not names:
        return {}
    pairs = np.indices((size, size)).reshape(2, -1)
    answers = Answers.multiclass(
        pairs[0], np.full((size * size, size), 1 / size), decisions=pairs[1]
    )
    counts = np.bincount(labelled.outcome * size + labelled.called, weights, size * size).astype(
        np.float64
    )
    rows = int(counts.sum())
    values = answers.values(names, counts)
    found = {}
    if "accuracy" in names:
        found["accuracy"] = intervals.share(values["accuracy"], rows)
    resampled = [name for name in names if name != "accuracy"]
    if not resampled:
        return found
    rng = np.random.default_rng(_SEED)
    draws = rng.multinomial(rows, counts / rows, DRAWS).astype(np.float64)
    drawn = [answers.values(resampled, draw) for draw in draws]
    for name in resampled:
        series = np.array([draw[name] for draw in drawn])
        found[name] = intervals.from_draws(values[name], series, rows)
    return found


def _macro_area(cell: Cell, size: int) -> tuple[MetricValue, float]:
    # One against the rest, averaged. The errors of the classes' areas are taken to agree, which
    # can only widen the interval.
    areas, spreads, errors, rarest = [], [], [], math.inf
    for place in range(size):
        part = cell.part(CLASS + place)
        weights = part.n.astype(np.float64)
        answers = Answers.binary(part.outcome, mean_scores(part))
        areas.append(answers.values(["roc_auc"], weights)["roc_auc"])
        positive, negative = by_bin(part.bin, weights, part.outcome == 1)
        spreads.append(intervals.roc_auc_spread(positive, negative))
        errors.append(binning_error(part))
        rarest = min(rarest, float(positive.sum()), float(negative.sum()))
    area = float(np.mean(areas))
    return intervals.within(area, float(np.mean(spreads)), rarest), float(np.mean(errors))
