"""One model's answers beside others': the same rows, the same resamples, a fair champion."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zlib import crc32

import numpy as np
import numpy.typing as npt

from heliotrope.domain import bootstrap
from heliotrope.domain.evaluation import Difference, MetricValue, SliceScore
from heliotrope.domain.metrics import ROW_MEANS, Answers
from heliotrope.domain.slicing import slice_masks
from heliotrope.errors import UsageError
from heliotrope.ports import FloatMatrix, Scorer
from heliotrope.spec import ModelSpec
from heliotrope.spec.metrics import METRICS, metrics_for
from heliotrope.vocabulary import Task

FEWEST_CLASS_ROWS = 10
"""A slice with fewer rows of a class is reported, not judged: its resamples would often hold none,
and an interval over them means little."""

Labels = npt.NDArray[np.float64] | npt.NDArray[np.int64]
BoolVector = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Labelled rows, oldest first."""

    labels: Labels
    """[rows]: positions in `spec.classes` (0, 1 for binary), or values for regression."""
    times: npt.NDArray[np.datetime64] | None = None
    """[rows] event times (UTC), rising; needed for a stream and for a champion's cut-off."""


@dataclass(frozen=True)
class Holdout(Rows):
    """The rows a candidate is judged on."""

    features: FloatMatrix = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """[rows, features] in the spec's order."""


@dataclass(frozen=True)
class Champion:
    """The accepted model, or why it cannot answer."""

    version: str
    scorer: Scorer | None = None
    features: FloatMatrix | None = None
    """The holdout in the champion's own columns; the candidate's when left out."""
    threshold: float | None = None
    """From its own contract; the spec's when left out."""
    error: str | None = None
    """Why it cannot be scored: a feature is no longer in the data, its file is corrupt, ..."""
    trained_until: datetime | None = None
    """Newest event it was trained or calibrated on. Holdout rows up to then are not compared."""
    seen: BoolVector | None = None
    """[rows] holdout rows known to be among its training rows. Give it where the snapshot is the
    same or rows have keys: it is exact where many rows share an event time. Overrides
    `trained_until`."""


@dataclass(frozen=True)
class Judge:
    """Compares the candidate's answers with others' on chosen rows."""

    spec: ModelSpec
    holdout: Holdout
    answers: Answers
    seed: int
    resamples: int

    def beside(
        self,
        others: Mapping[str, Answers],
        rows: BoolVector,
        stage: str,
        only_primary: bool = False,
    ) -> tuple[dict[str, MetricValue], dict[str, dict[str, MetricValue]], dict[str, Difference]]:
        """Metrics of the candidate and of others over the same resamples of some rows."""
        gates, primary = self.spec.gates, self.spec.metrics.primary
        models = {"": self.answers, **others}
        if not rows.all():
            models = {name: answers.take(rows) for name, answers in models.items()}
        wanted = [primary] if only_primary else metrics_for(self.spec.task)
        # A stage of its own seed: the order of slices, or one more of them, moves no number.
        rng = np.random.default_rng([self.seed, crc32(stage.encode())])
        draws = bootstrap.resample(models, dict.fromkeys(models, wanted), rng, self.resamples)
        points = {name: answers.values(wanted) for name, answers in models.items()}
        scored = {
            name: {
                metric: bootstrap.interval(
                    points[name][metric], draws[name][metric], self._effective(metric, models[""])
                )
                for metric in wanted
            }
            for name in models
        }
        gaps = {
            name: bootstrap.difference(
                (points[""][primary], draws[""][primary]),
                (points[name][primary], draws[name][primary]),
                self._effective(primary, models[""]),
                gates.confidence,
                METRICS[primary].greater_is_better,
            )
            for name in others
        }
        return scored.pop(""), scored, gaps

    def exact_where_constant(self, metrics: dict[str, MetricValue]) -> dict[str, MetricValue]:
        """Exact intervals for a share of right answers that is 0 or 1."""
        accuracy = metrics.get("accuracy")
        if accuracy is None or accuracy.value not in (0.0, 1.0):
            return metrics
        right = round(accuracy.value * self.answers.rows)
        exact = bootstrap.proportion_interval(right, self.answers.rows)
        return metrics | {"accuracy": exact}

    def against(self, champion: Champion | None) -> dict[str, object]:
        """What the evaluation says of the champion, and the slices."""
        if champion is None:
            return {"slices": self._slices(None, np.ones(self.answers.rows, np.bool_))}
        fair = self._fair_rows(champion)
        facts: dict[str, object] = {
            "champion_version": champion.version,
            "champion_trained_until": champion.trained_until,
            "comparison_rows": int(fair.sum()),
            "comparison_class_counts": class_counts(self.spec, self.holdout.labels[fair]),
        }
        answered = self._score(champion)
        if isinstance(answered, str):
            slices = self._slices(None, np.ones(self.answers.rows, np.bool_), "champion not scored")
            return facts | {"champion_error": answered, "slices": slices}
        if fair.any():
            own, theirs, gaps = self.beside({"champion": answered}, fair, "champion")
            facts |= {"champion": theirs["champion"], "difference": gaps["champion"]}
            if not fair.all():
                facts["candidate_compared"] = own
        return facts | {"slices": self._slices(answered, fair)}

    def _fair_rows(self, champion: Champion) -> BoolVector:
        if champion.seen is not None:
            return ~champion.seen
        times = self.holdout.times
        if champion.trained_until is None or times is None:
            return np.ones(self.answers.rows, np.bool_)
        return np.asarray(times > _stamp(champion.trained_until))

    def _score(self, champion: Champion) -> Answers | str:
        if champion.error is not None:
            return champion.error
        if champion.scorer is None:
            return "no model was loaded"
        features = self.holdout.features if champion.features is None else champion.features
        threshold = self.spec.threshold if champion.threshold is None else champion.threshold
        try:
            scores = champion.scorer.score(features)
            answers = read_answers(self.spec, self.holdout.labels, scores, threshold)
        except Exception as error:  # noqa: BLE001 - a champion that breaks is evidence: the gate says ERROR
            return f"{type(error).__name__}: {error}"
        if not answers.finite:
            bad = int((~np.isfinite(answers.scores)).sum())
            return f"{bad:,} of its {answers.scores.size:,} scores are not finite"
        return answers

    def _slices(
        self, champion: Answers | None, fair: BoolVector, note: str | None = None
    ) -> tuple[SliceScore, ...]:
        masks = slice_masks(self.spec, self.holdout.features)
        return tuple(
            self._slice(name, mask & fair, champion, note)
            for name, mask in masks
            if (mask & fair).any()
        )

    def _slice(
        self, name: str, rows: BoolVector, champion: Answers | None, note: str | None
    ) -> SliceScore:
        others = {} if champion is None else {"champion": champion}
        own, theirs, gaps = self.beside(others, rows, f"slice {name}", only_primary=True)
        primary, labels = self.spec.metrics.primary, self.holdout.labels[rows]
        gap = gaps.get("champion")
        if gap is not None:
            note = self._unjudged(labels, gap)
        return SliceScore(
            name=name,
            rows=len(labels),
            positives=int((labels == 1).sum()) if self.spec.task is Task.BINARY else None,
            candidate=own[primary],
            champion=theirs["champion"][primary] if theirs else None,
            difference=None if note else gap,
            note=note,
        )

    def _unjudged(self, labels: Labels, gap: Difference) -> str | None:
        primary = self.spec.metrics.primary
        if self.spec.task is Task.BINARY and primary not in ROW_MEANS:
            counts = class_counts(self.spec, labels)
            name, count = min(counts.items(), key=lambda item: item[1])
            if count < FEWEST_CLASS_ROWS:
                return f"{count} of class {name}, {FEWEST_CLASS_ROWS} needed"
        if np.isfinite([gap.value, gap.low, gap.high]).all():
            return None
        return f"{primary} is undefined here"

    @staticmethod
    def _effective(metric: str, answers: Answers) -> int:
        return answers.rows if metric in ROW_MEANS else answers.rarest


def read_answers(
    spec: ModelSpec, labels: Labels, scores: npt.ArrayLike, threshold: float
) -> Answers:
    """A model's scores against the labels; UsageError when their shape is not the task's."""
    values = np.asarray(scores, np.float64)
    shape = (len(labels), len(spec.classes)) if spec.task is Task.MULTICLASS else (len(labels),)
    if values.shape != shape:
        raise UsageError(
            f"scores must have shape {list(shape)} for task {spec.task}. Got {list(values.shape)}."
        )
    if spec.task is Task.REGRESSION:
        return Answers.regression(labels, values)
    if spec.task is Task.BINARY:
        return Answers.binary(labels, values, threshold)
    return Answers.multiclass(labels, values)


def class_counts(spec: ModelSpec, labels: Labels) -> dict[str, int]:
    """Rows of each class of the spec; empty for regression."""
    if spec.task is Task.REGRESSION:
        return {}
    counts = np.bincount(labels.astype(np.int64), minlength=len(spec.classes))
    return dict(zip(spec.classes, counts.tolist(), strict=True))


def _stamp(moment: datetime) -> np.datetime64:
    utc = moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(utc, "us")
