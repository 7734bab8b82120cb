"""What a diagnosis is made from: losses then and now, split by what the reference promises."""

import math
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from heliotrope.domain.drift import DriftReport
from heliotrope.domain.remedy.attribution import Mapped, attribute, mean_and_error
from heliotrope.domain.remedy.calibration import Calibration, Losses, calibrate, cross_fitted
from heliotrope.domain.remedy.rows import Sample, Score
from heliotrope.spec import ModelSpec

LEAST_ROWS = 100
"""Fewer labelled rows than this on either side name nothing but data and label faults."""


@dataclass(frozen=True, eq=False)
class Case:
    """What was measured."""

    spec: ModelSpec
    version: str
    reference: Sample
    now: Sample
    drift: DriftReport | None
    then: Losses
    losses: Losses
    window: tuple[datetime | None, datetime | None]
    mapped: tuple[Mapped, ...] = ()
    evidence: list[str] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def fall(self) -> float:
        """Rise of the mean loss."""
        return float(self.losses.true.mean() - self.then.true.mean())

    @property
    def covariate(self) -> float:
        """What the reference promises of it."""
        return float(self.losses.expected.mean() - self.then.expected.mean())

    @property
    def concept(self) -> float:
        """The rest."""
        return self.fall - self.covariate

    @property
    def enough(self) -> bool:
        """Whether there are rows to compare."""
        return min(len(self.now), len(self.reference)) >= LEAST_ROWS


def measure(
    spec: ModelSpec,
    version: str,
    reference: Sample,
    now: Sample,
    score: Score,
    drift: DriftReport | None,
    seed: int,
) -> Case:
    """Compare labelled rows; without enough of them a case has no losses, only what is drifted.

    Arguments are those of `naming.diagnose`.
    """
    before, held = reference.labelled(), now.labelled()
    window = (drift.window_from, drift.window_to) if drift else (None, None)
    none = Losses(np.empty(0), np.empty(0), np.empty(0))
    if min(len(before), len(held)) < LEAST_ROWS:
        return Case(spec, version, before, held, drift, none, none, window)
    scores = score(before.features)
    calibration = calibrate(spec.task, scores, before.labels)
    case = Case(
        spec, version, before, held, drift,
        cross_fitted(spec.task, scores, before.labels),
        calibration.losses(score(held.features), held.labels),
        window,
        _mapped(spec, before, held, score, calibration, drift, seed),
    )  # fmt: skip
    _note(case)
    return case


def _mapped(
    spec: ModelSpec,
    before: Sample,
    held: Sample,
    score: Score,
    calibration: Calibration,
    drift: DriftReport | None,
    seed: int,
) -> tuple[Mapped, ...]:
    moved = attribute(spec.features, before, held, score, calibration, seed)
    if drift is None:
        return tuple(moved)
    faulty = {f.column for f in drift.fatal}
    stayed = {c.column for c in drift.columns if c.effect < 0.03}
    return tuple(m for m in moved if m.feature in faulty or m.feature not in stayed)


def _note(case: Case) -> None:
    excess, error = mean_and_error(case.losses.excess)
    then, then_error = mean_and_error(case.then.excess)
    z = (excess - then) / max(math.hypot(error, then_error), 1e-12)
    loss, loss_error = mean_and_error(case.losses.true)
    before, before_error = mean_and_error(case.then.true)
    fall_z = (loss - before) / max(math.hypot(loss_error, before_error), 1e-12)
    case.numbers.update(
        loss=loss, loss_before=before, fall=case.fall, fall_z=fall_z,
        covariate_part=case.covariate, concept_part=case.concept, concept_z=z,
    )  # fmt: skip
    case.evidence.append(
        f"mean loss {loss:.4f} over {len(case.now):,} labelled rows, {before:.4f} over "
        f"{len(case.reference):,} reference rows (z = {fall_z:.1f})"
    )
    case.evidence.append(
        f"of the rise of {case.fall:+.4f}, {case.covariate:+.4f} is to be expected of the rows "
        f"that came, {case.concept:+.4f} is not (z = {z:.1f})"
    )
