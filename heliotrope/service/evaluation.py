"""Judging a candidate on the holdout, beside the champion and the trivial answers."""

from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from heliotrope.domain import baselines, bootstrap, curves
from heliotrope.domain.evaluation import Evaluation
from heliotrope.domain.gate import CONSTANT_IS_PERFECT
from heliotrope.domain.metrics import Answers
from heliotrope.domain.row_loss import holdout_loss, loss_kind
from heliotrope.errors import UsageError
from heliotrope.ports import Scorer
from heliotrope.service.comparison import (
    Champion,
    Holdout,
    Judge,
    Rows,
    class_counts,
    read_answers,
)
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Task

__all__ = ["Champion", "Holdout", "Rows", "evaluate"]


def evaluate(
    spec: ModelSpec,
    candidate: Scorer,
    holdout: Holdout,
    history: Rows,
    *,
    seed: int,
    champion: Champion | None = None,
    resamples: int | None = None,
) -> Evaluation:
    """All metrics of the task with 95% intervals, baselines, champion, slices and curves.

    Args:
        spec: what is demanded.
        candidate: the trained model.
        holdout: mature rows, newer than any the candidate saw.
        history: the labelled rows before it; the baselines are fitted on them.
        seed: of the bootstrap.
        champion: the accepted model; None for a first model.
        resamples: bootstrap resamples; by the number of rows when left out.

    Raises:
        UsageError: labels, times and features are not equally long, or the candidate's scores do
            not have the shape of its task.
    """
    _check(spec, holdout, history)
    answers = read_answers(spec, holdout.labels, candidate.score(holdout.features), spec.threshold)
    judged = Judge(spec, holdout, answers, seed, resamples or bootstrap.resamples_for(answers.rows))
    trivial = _trivial(spec, holdout, history)
    metrics, others, gaps = judged.beside(trivial, np.ones(answers.rows, np.bool_), "baselines")
    metrics = judged.exact_where_constant(metrics)
    facts = {
        "primary": spec.metrics.primary,
        "rows": answers.rows,
        "class_counts": class_counts(spec, holdout.labels),
        "metrics": metrics,
        "baselines": others,
        "baseline_differences": {
            name: gap
            for name, gap in gaps.items()
            if not (name == "majority" and spec.metrics.primary in CONSTANT_IS_PERFECT)
        },
        "classes": tuple(spec.classes),
        "threshold": spec.threshold if spec.task is Task.BINARY else None,
        "resamples": judged.resamples,
        "watched": holdout_loss(loss_kind(spec), answers),
        "event_from": _moment(holdout.times, 0),
        "event_to": _moment(holdout.times, -1),
    }
    facts |= _shapes(answers)
    return Evaluation.model_validate(facts | judged.against(champion))


def _trivial(spec: ModelSpec, holdout: Holdout, history: Rows) -> dict[str, Answers]:
    size = len(spec.classes)
    call_positive = spec.task is Task.BINARY and spec.metrics.primary == "precision"
    found = {
        "majority": baselines.majority(
            spec.task, history.labels, holdout.labels, size, call_positive
        )
    }
    if spec.stream and history.times is not None and holdout.times is not None:
        found["persistence"] = baselines.persistence(
            spec.task,
            (history.labels, history.times),
            (holdout.labels, holdout.times),
            spec.label.delay,
            size,
        )
    return found


def _shapes(answers: Answers) -> dict[str, object]:
    if not answers.finite or answers.rows == 0:
        return {}
    found: dict[str, object] = {}
    if answers.task is Task.BINARY:
        found["roc"] = curves.roc_curve(answers)
        found["precision_recall"] = curves.precision_recall_curve(answers)
    if answers.task is not Task.MULTICLASS:
        found["calibration"] = curves.calibration_curve(answers)
    if answers.classes:
        found["confusion"] = tuple(tuple(int(cell) for cell in row) for row in answers.confusion())
    return found


def _check(spec: ModelSpec, holdout: Holdout, history: Rows) -> None:
    if len(history.labels) == 0:
        raise UsageError("history must hold at least one row to fit the baselines on. Got 0.")
    lengths: list[tuple[str, npt.NDArray[np.generic] | None, int]] = [
        ("holdout.features", holdout.features, len(holdout.labels)),
        ("holdout.times", holdout.times, len(holdout.labels)),
        ("history.times", history.times, len(history.labels)),
    ]
    for name, values, rows in lengths:
        if values is not None and len(values) != rows:
            raise UsageError(f"{name} must have {rows} rows, as its labels. Got {len(values)}.")
    if holdout.features.shape[1:] != (len(spec.features),):
        raise UsageError(
            f"holdout.features must have {len(spec.features)} columns. "
            f"Got shape {list(holdout.features.shape)}."
        )
    if spec.stream and (holdout.times is None or history.times is None):
        raise UsageError("times must be given for a stream. Got None.")


def _moment(times: npt.NDArray[np.datetime64] | None, place: int) -> datetime | None:
    if times is None or len(times) == 0:
        return None
    micros = int(times[place].astype("datetime64[us]").astype(np.int64))
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
