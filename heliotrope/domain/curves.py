"""Curves for people and for the pipeline UI, thinned so that a document stays small."""

import numpy as np
import numpy.typing as npt

from heliotrope.domain.evaluation import Curve, Evaluation
from heliotrope.domain.metrics import Answers, equal_count_bins

FloatVector = npt.NDArray[np.float64]

POINTS = 200
"""Most points a curve keeps."""


def roc_curve(answers: Answers) -> Curve | None:
    """False and true positive rates from (0, 0) to (1, 1); None with one class.

    Every threshold is finite: the first, where nothing is called positive, is 1, or just above
    the highest score. (scikit-learn says infinity there, which JSON and the KFP UI refuse.)
    """
    ranking = answers.rankings[0]
    counts = ranking.counts(np.ones(answers.rows))
    if counts.positives == 0 or counts.negatives == 0:
        return None
    x = np.concatenate([[0.0], counts.false_positives / counts.negatives])
    y = np.concatenate([[0.0], counts.true_positives / counts.positives])
    highest = float(ranking.thresholds[0])
    above = 1.0 if highest < 1 else float(np.nextafter(highest, np.inf))
    thresholds = np.concatenate([[above], ranking.thresholds])
    return _curve(x, y, thresholds)


def precision_recall_curve(answers: Answers) -> Curve | None:
    """Recall (x) and precision (y) by falling threshold; None without positives."""
    ranking = answers.rankings[0]
    counts = ranking.counts(np.ones(answers.rows))
    if counts.positives == 0:
        return None
    return _curve(counts.true_positives / counts.positives, counts.precision(), ranking.thresholds)


def calibration_curve(answers: Answers, bins: int = 10) -> Curve | None:
    """Mean predicted (x) and observed (y) over equal-count bins, for binary and regression."""
    if answers.rows == 0:
        return None
    place = equal_count_bins(answers.scores, bins)
    rows = np.bincount(place)
    used = rows > 0
    x = np.bincount(place, answers.scores)[used] / rows[used]
    y = np.bincount(place, answers.labels)[used] / rows[used]
    return Curve(x=tuple(x.tolist()), y=tuple(y.tolist()))


def roc_points(evaluation: Evaluation) -> tuple[list[float], list[float], list[float]]:
    """fpr, tpr and thresholds, equally long, at most 200, all finite.

    What `ClassificationMetrics.log_roc_curve` of KFP takes. Empty lists where there is no curve.
    """
    curve = evaluation.roc
    if curve is None:
        return [], [], []
    return list(curve.x), list(curve.y), list(curve.thresholds)


def confusion_matrix(evaluation: Evaluation) -> tuple[list[str], list[list[int]]]:
    """Classes and counts, rows true and columns called, as KFP's `log_confusion_matrix` takes."""
    return list(evaluation.classes), [list(row) for row in evaluation.confusion]


def _curve(x: FloatVector, y: FloatVector, thresholds: FloatVector) -> Curve:
    keep = _thinned(x, y)
    return Curve(
        x=tuple(x[keep].tolist()),
        y=tuple(y[keep].tolist()),
        thresholds=tuple(thresholds[keep].tolist()),
    )


def _thinned(x: FloatVector, y: FloatVector) -> npt.NDArray[np.intp]:
    # Even steps along the curve's length keep its bends; even steps of rank would spend nearly
    # all points where the rare class is not.
    if len(x) <= POINTS:
        return np.arange(len(x))
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    places = np.searchsorted(length, np.linspace(0, length[-1], POINTS))
    places[0], places[-1] = 0, len(x) - 1
    return np.unique(places)
