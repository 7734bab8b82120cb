"""How right a window was by the labels that came, beside what its scores alone promise."""

import math

import numpy as np

from heliotrope.domain import estimate
from heliotrope.domain.document import Document
from heliotrope.domain.metrics import Answers
from heliotrope.domain.outcomes import FeatureWindow, Mask
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Task

_BINS = 400


class Performance(Document):
    """Of one window's rows."""

    model: str
    rows: int
    labelled: int
    primary: str
    metrics: dict[str, float]
    """The spec's metrics over labelled rows; those that are undefined are left out. Labels that
    came so far may be biased: only the truth's mature windows are judged on."""
    estimate: dict[str, float]
    """What calibrated scores promise of all rows; none for what they cannot promise."""
    text: str

    def flat(self) -> dict[str, float]:
        """Numbers by name, for a table."""
        promised = {f"estimate.{name}": value for name, value in self.estimate.items()}
        counts = {"rows": float(self.rows), "labelled": float(self.labelled)}
        return {**counts, **self.metrics, **promised}


def measure(spec: ModelSpec, rows: FeatureWindow) -> Performance:
    """Measure a window.

    Args:
        spec: names the metrics.
        rows: of the window; of many classes only accuracy can be told, since features' rows hold
            the winner's probability alone.
    """
    held = rows.labelled & np.isfinite(rows.score)
    names = list(spec.metrics.names)
    found: dict[str, float] = {}
    if held.any():
        found = _values(spec, rows, held, names)
    metrics = {name: value for name, value in found.items() if math.isfinite(value)}
    promised = _promised(spec, rows, names)
    primary = spec.metrics.primary
    seen = f"{primary} {metrics[primary]:.4g}" if primary in metrics else f"{primary} unknown"
    said = f", {promised[primary]:.4g} promised by the scores" if primary in promised else ""
    return Performance(
        model=spec.name,
        rows=len(rows),
        labelled=int(held.sum()),
        primary=primary,
        metrics=metrics,
        estimate=promised,
        text=f"{seen} over {int(held.sum()):,} labelled of {len(rows):,} rows{said}",
    )


def _values(spec: ModelSpec, rows: FeatureWindow, held: Mask, names: list[str]) -> dict[str, float]:
    label, score = rows.label[held], rows.score[held]
    if spec.task is Task.MULTICLASS:
        return {"accuracy": float((rows.prediction[held] == label).mean())}
    if spec.task is Task.REGRESSION:
        return Answers.regression(label, score).values(names)
    called = rows.prediction[held]
    decisions = called if (called >= 0).all() else None
    return Answers.binary(
        label.astype(np.int64), score, spec.threshold, decisions
    ).values(names)  # fmt: skip


def _promised(spec: ModelSpec, rows: FeatureWindow, names: list[str]) -> dict[str, float]:
    finite = np.isfinite(rows.score)
    if spec.task is not Task.BINARY or not finite.any():
        return {}
    score = np.clip(rows.score[finite], 0.0, 1.0)
    called = np.clip(rows.prediction[finite], 0, 1)
    place = np.minimum((score * _BINS).astype(np.int64), _BINS - 1) * 2 + called
    count = np.bincount(place).astype(np.float64)
    used = count > 0
    mean = np.bincount(place, score)[used] / count[used]
    bins = estimate.ScoredBins(mean, np.flatnonzero(used) % 2, count[used])
    found = estimate.promised(bins, names)
    return {name: value for name, value in found.items() if math.isfinite(value)}
