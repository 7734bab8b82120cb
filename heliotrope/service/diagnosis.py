"""Why did it drop? Gather labelled rows and reference, ask the domain, write it down."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from heliotrope.domain.decisions import DecisionEntry, DecisionKind
from heliotrope.domain.drift import DriftReport
from heliotrope.domain.drift.window import matrix_of
from heliotrope.domain.outcomes import FeatureWindow, Mask
from heliotrope.domain.remedy import ChangeKind, Diagnosis, LabelFacts, Remedy, Sample, diagnose
from heliotrope.domain.triggers import Cause, CauseKind
from heliotrope.service.drift_reference import MonitoringTools, Reference
from heliotrope.service.monitoring import Collected, collect_window, judge_window
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Role

SAMPLE_ROWS = 20_000
HARM_Z = 3.0
"""Standard errors from which a rise of the mean loss is harm."""


@dataclass(frozen=True, eq=False)
class Explained:
    """A diagnosis and the window it is of."""

    diagnosis: Diagnosis
    report: DriftReport


def diagnose_window(
    spec: ModelSpec,
    tools: MonitoringTools,
    reference: Reference,
    since: datetime,
    until: datetime,
    now: datetime,
) -> Explained:
    """Name what changed in a window, by the labels that are known.

    Args:
        spec: of the model.
        tools: of the outside.
        reference: the champion's.
        since: of the window, inclusive, UTC.
        until: exclusive.
        now: what was predicted longer ago than `label.delay` should be labelled.

    Raises:
        UnavailableError: the store does not answer.
    """
    collected = collect_window(
        tools.outcomes, spec, reference.version, since, until, sample_rows=SAMPLE_ROWS
    )
    return explain(spec, tools, reference, collected, now)


def explain(
    spec: ModelSpec,
    tools: MonitoringTools,
    reference: Reference,
    collected: Collected,
    now: datetime,
) -> Explained:
    """The same, of rows that are at hand."""
    report = judge_window(spec, collected, reference)
    usual = _usual(spec, tools, reference, collected.since, now)
    rows = collected.rows
    sample = Sample(
        matrix_of(spec.features, collected.window),
        rows.label,
        rows.label_received_at,
        _facts(spec, rows, usual, now),
    )
    found = diagnose(
        spec, reference.version, reference.held_out, sample, reference.scorer.score, report
    )
    return Explained(found, report)


def _usual(
    spec: ModelSpec, tools: MonitoringTools, reference: Reference, before: datetime, now: datetime
) -> FeatureWindow | None:
    """Rows of the time before, whose labels had as long to come: what labels are usually like."""
    length = spec.monitoring.window * max(4, 2 * spec.monitoring.n)
    found = tools.outcomes.window(
        spec, before - length, before, features=(), sample_rows=SAMPLE_ROWS, known_by=now,
        version=reference.version, role=Role.CHAMPION,
    )  # fmt: skip
    # A shadow answers long after, often with the label there: of delays it says nothing.
    return found if len(found) >= 200 else None


def _facts(
    spec: ModelSpec, rows: FeatureWindow, usual: FeatureWindow | None, now: datetime
) -> LabelFacts:
    due = _mature(spec, rows, now)
    predicted = int(due.sum())
    labelled = int((rows.labelled & due).sum())
    if usual is None:
        return LabelFacts(
            predicted=predicted or None,
            labelled=labelled,
            coverage_before=spec.monitoring.mature_coverage if predicted >= 200 else None,
        )
    due_before = _mature(spec, usual, now)
    coverage = float(usual.labelled[due_before].mean()) if due_before.any() else None
    return LabelFacts(
        predicted=predicted or None,
        labelled=labelled,
        coverage_before=coverage,
        # The quickest of labels that still come are quick: only mature rows tell a delay.
        delay_seconds=_delay(rows, due),
        delay_before=_delay(usual, due_before),
    )


def _mature(spec: ModelSpec, rows: FeatureWindow, now: datetime) -> Mask:
    at = np.datetime64(now.replace(tzinfo=None) - spec.label.delay, "us")
    return np.asarray(rows.predicted_at <= at)


def _delay(rows: FeatureWindow, due: Mask) -> float | None:
    held = rows.labelled & due
    if held.sum() < 50:
        return None
    took = (rows.label_received_at[held] - rows.predicted_at[held]) / np.timedelta64(1, "s")
    return float(np.median(took))


def harm_of(diagnosis: Diagnosis) -> bool | None:
    """Whether labels show that the model got worse; None where there are too few."""
    z = diagnosis.numbers.get("fall_z")
    return None if z is None else z >= HARM_Z and diagnosis.fall > 0


def drift_cause(
    spec: ModelSpec, report: DriftReport, diagnosis: Diagnosis | None, now: datetime
) -> Cause:
    """Drift of K of the last N windows, as the door to retraining takes it."""
    harm = None if diagnosis is None else harm_of(diagnosis)
    first = report.window_from.isoformat() if report.window_from else "no window"
    seen = {True: "and labels show harm", False: "drift, no harm seen", None: "harm not known yet"}
    named = f" Diagnosis: {diagnosis.reason}" if diagnosis else ""
    return Cause(
        kind=CauseKind.DRIFT,
        key=f"{report.version} {first}",
        model=spec.name,
        text=f"{spec.monitoring.k} of the last {spec.monitoring.n} windows drifted, {seen[harm]}: "
        f"{report.reason}.{named}",
        asked_at=now,
        evidence={
            "score": report.score,
            "moved": [c.column for c in report.drifted],
            "diagnosis": diagnosis.kind.value if diagnosis else None,
        },
        remedy=diagnosis.remedy if diagnosis else None,
        harm=harm,
        since=report.window_from,
        champion=report.version,
    )


def accuracy_cause(
    spec: ModelSpec,
    diagnosis: Diagnosis,
    key: str,
    text: str,
    now: datetime,
    since: datetime | None = None,
) -> Cause:
    """An accuracy alarm with its diagnosis, as the door to retraining takes it.

    A sequential test has shown the fall already; rows of one window that cannot show it again are
    no word against it, so where nothing is named the door decides on the alarm alone.
    """
    unnamed = diagnosis.kind is ChangeKind.NO_CHANGE or (
        diagnosis.kind is ChangeKind.COVARIATE_SHIFT and diagnosis.remedy is Remedy.WAIT
    )
    named = (
        f"What changed has no name yet. {diagnosis.reason}"
        if unnamed
        else f"Diagnosis: {diagnosis.reason}"
    )
    return Cause(
        kind=CauseKind.ACCURACY,
        key=key,
        model=spec.name,
        text=f"{text} {named}",
        asked_at=now,
        evidence={"diagnosis": diagnosis.kind.value, "subject": diagnosis.subject},
        remedy=None if unnamed else diagnosis.remedy,
        harm=True,
        since=since,
        champion=diagnosis.version,
    )


def diagnosis_entry(diagnosis: Diagnosis, now: datetime, actor: str, about: str) -> DecisionEntry:
    """The diagnosis as the log keeps it; people are told of data and label faults."""
    return DecisionEntry(
        model=diagnosis.model,
        at=now,
        kind=DecisionKind.DIAGNOSIS,
        actor=actor,
        subject=about,
        reason=f"{diagnosis.kind.replace('_', ' ')}: {diagnosis.reason}",
        evidence={
            "kind": diagnosis.kind.value,
            "remedy": diagnosis.remedy.value,
            "subject": diagnosis.subject,
            "share": diagnosis.share,
            "version": diagnosis.version,
            "fall": _number(diagnosis.fall),
            "covariate_part": _number(diagnosis.covariate_part),
            "concept_part": _number(diagnosis.concept_part),
            "labelled": diagnosis.labelled,
            "evidence": list(diagnosis.evidence[:8]),
        },
        key=f"diagnosis {diagnosis.version} {about}",
    )


def recent(spec: ModelSpec, now: datetime) -> tuple[datetime, datetime]:
    """The time a diagnosis looks at when an alarm is raised: the newest windows with labels."""
    return now - max(spec.monitoring.window, timedelta(minutes=1)) * spec.monitoring.n, now


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
