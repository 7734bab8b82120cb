"""From a cell to what people read: metrics with intervals, coverage, delays, the estimate.

Threshold metrics, log loss, brier, mae and rmse are exact, up to fixed point (1e-9 a row). Rankings
are taken over 2,000 score bins, where equal bins tie: `binning_error` bounds what that can move ROC
AUC, half the share of pairs within one bin (below 1e-3 unless scores crowd into few bins, where
they mostly tie anyway).
"""

import math

import numpy as np
import numpy.typing as npt

from heliotrope.domain import estimate as cbpe
from heliotrope.domain.evaluation import MetricValue
from heliotrope.domain.metrics import Answers
from heliotrope.domain.truth import intervals
from heliotrope.domain.truth.bins import Calibration, binning_error, by_bin, mean_scores
from heliotrope.domain.truth.cell import Cell, Part
from heliotrope.domain.truth.documents import DelayQuantiles, Folded, FoldedEstimate
from heliotrope.domain.truth.multiclass import multiclass_metrics
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.domain.truth.regression import regression_metrics
from heliotrope.domain.truth.statistics import (
    DELAY,
    DELAY_STEPS,
    MAIN,
    SQUARE_UNIT,
    UNIT,
    UNJUDGED,
)
from heliotrope.vocabulary import Task

FloatVector = npt.NDArray[np.float64]


def fold(cell: Cell, plan: TruthPlan, whole: bool = True) -> Folded:
    """What a cell says. The same cell always gives the same answer.

    Args:
        cell: of one window, or one slice of it.
        plan: of the model.
        whole: False for a slice: only the primary metric is estimated.
    """
    main = cell.part(MAIN)
    labelled = main.labelled
    predicted, known = int(main.n.sum()), int(labelled.n.sum())
    metrics, error = _metrics(cell, labelled, plan)
    gaps, evidence = (), 0.0
    if plan.task is Task.BINARY and known:
        seen = Calibration(labelled)
        gaps = tuple(seen.gaps.tolist())
        evidence = cbpe.log_evidence(seen.score, seen.positives, seen.negatives)
    return Folded(
        predicted=predicted,
        labelled=known,
        unjudged=int(main.n[main.outcome == UNJUDGED].sum()),
        correct=_correct(labelled, plan),
        class_counts={
            name: int(labelled.n[labelled.outcome == place].sum())
            for place, name in enumerate(plan.classes)
        },
        metrics=metrics,
        binning_error=error,
        delay=_delay(cell.part(DELAY)),
        estimate=_estimate(main, plan, plan.metrics if whole else plan.metrics[:1]),
        calibration_gaps=gaps,
        log_evidence=evidence,
    )


def _correct(labelled: Part, plan: TruthPlan) -> int | None:
    if plan.task is Task.REGRESSION:
        return None
    return int(labelled.n[labelled.outcome == labelled.called].sum())


def _metrics(cell: Cell, labelled: Part, plan: TruthPlan) -> tuple[dict[str, MetricValue], float]:
    if not len(labelled.n):
        return dict.fromkeys(plan.metrics, intervals.UNDEFINED), 0.0
    if plan.task is Task.REGRESSION:
        return regression_metrics(cell, plan), 0.0
    if plan.task is Task.MULTICLASS:
        return multiclass_metrics(cell, labelled, plan)
    weights, score = labelled.n.astype(np.float64), mean_scores(labelled)
    answers = Answers.binary(labelled.outcome, score, decisions=labelled.called)
    names = [n for n in plan.metrics if n not in ("log_loss", "brier", "calibration_error")]
    values = answers.values(names, weights)
    values |= _exact_means(labelled)
    error = binning_error(labelled) if "roc_auc" in names else 0.0
    wanted = {n: values[n] for n in plan.metrics if n in values}
    judged = _with_intervals(wanted, labelled, weights, answers)
    if "calibration_error" in plan.metrics:
        judged["calibration_error"] = _calibration_interval(Calibration(labelled))
    return {name: judged[name] for name in plan.metrics}, error


def _exact_means(labelled: Part) -> dict[str, float]:
    total = labelled.sums.sum(axis=0)
    rows = int(total[0])
    return {
        "brier": int(total[2]) / UNIT / rows,
        "log_loss": int(total[4]) / UNIT / rows,
    }


def _with_intervals(
    values: dict[str, float], part: Part, weights: FloatVector, answers: Answers
) -> dict[str, MetricValue]:
    cells = answers.confusion(weights)
    total = part.sums.sum(axis=0)
    squares = {
        "brier": int(total[3]) / UNIT / max(int(total[0]), 1),
        "log_loss": int(total[5]) / SQUARE_UNIT / max(int(total[0]), 1),
    }
    positive, negative = by_bin(part.bin, weights, part.outcome == 1)
    return {
        name: _interval(name, value, cells, squares, (positive, negative))
        for name, value in values.items()
    }


def _interval(
    name: str, value: float, cells: FloatVector, squares: dict[str, float],
    ranked: tuple[FloatVector, FloatVector],
) -> MetricValue:  # fmt: skip
    actual, called = cells.sum(axis=1), cells.sum(axis=0)
    rows, positives = float(cells.sum()), float(actual[1])
    rarest = float(actual.min())
    match name:
        case "accuracy":
            return intervals.share(value, rows)
        case "precision":
            return intervals.share(value, float(called[1]))
        case "recall" | "recall_at_precision":
            return intervals.share(value, positives)
        case "f1":
            return intervals.f1(value, float(actual[1] + called[1] - cells[1, 1]))
        case "balanced_accuracy":
            recalls = (np.diag(cells) + 1) / (actual + 2)
            spread = math.sqrt(float((recalls * (1 - recalls) / (actual + 2)).sum())) / 2
            return intervals.within(value, spread, rarest)
        case "roc_auc":
            return intervals.within(value, intervals.roc_auc_spread(*ranked), rarest)
        case "average_precision":
            return intervals.average_precision(value, positives)
        case "log_loss" | "brier":
            return intervals.mean(value, squares[name], rows)
        case _:
            raise AssertionError(f"no interval for {name}")


def _calibration_interval(seen: Calibration) -> MetricValue:
    rows = float(seen.rows.sum())
    half = intervals.student_width(rows) * seen.spread() if rows >= 2 else math.nan
    low, high = max(0.0, seen.error - half), min(1.0, seen.error + half)
    return MetricValue(value=seen.error, low=low, high=high)


def _delay(part: Part) -> DelayQuantiles | None:
    if not len(part.n):
        return None
    upto = np.cumsum(part.n)
    places = np.searchsorted(upto, np.array([0.5, 0.9, 0.99]) * upto[-1])
    seconds = [((int(part.bin[i]) + 0.5) / DELAY_STEPS) ** 4 / 1000 for i in places]
    return DelayQuantiles(p50=seconds[0], p90=seconds[1], p99=seconds[2])


def _estimate(main: Part, plan: TruthPlan, names: tuple[str, ...]) -> dict[str, FoldedEstimate]:
    judged = main.where(main.outcome != UNJUDGED)
    if plan.task is Task.REGRESSION or not len(judged.n):
        return {}
    if plan.task is Task.MULTICLASS:
        if "accuracy" not in names:
            return {}
        rows = float(judged.n.sum())
        value = min(1.0, int(judged.sums[:, 1].sum()) / UNIT / rows)
        wide = intervals.share(value, rows)
        only = FoldedEstimate(value=value, low=wide.low, high=wide.high, sensitivity=1.0)
        return {"accuracy": only}
    bins = cbpe.ScoredBins(mean_scores(judged), judged.called, judged.n.astype(np.float64))
    values = cbpe.promised(bins, names)
    answers, weights = bins.expected()
    moves = cbpe.sensitivities(bins, names)
    places = np.tile(judged.bin, 2)
    positive, negative = by_bin(places, weights, answers.labels == 1)
    squares = {
        "brier": float(weights @ answers.row_losses["brier"] ** 2) / float(weights.sum()),
        "log_loss": float(weights @ answers.row_losses["log_loss"] ** 2) / float(weights.sum()),
    }
    found = {}
    for name, value in values.items():
        wide = _interval(name, value, answers.confusion(weights), squares, (positive, negative))
        found[name] = FoldedEstimate(
            value=value, low=wide.low, high=wide.high, sensitivity=moves[name]
        )
    return found
