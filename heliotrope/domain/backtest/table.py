"""The comparison as rows of text, the same on a terminal, in Markdown and on a page."""

import math
from collections.abc import Sequence
from datetime import timedelta

from heliotrope.domain.backtest.policy import PolicyKind
from heliotrope.domain.backtest.report import BacktestReport, Detection, PolicyResult
from heliotrope.spec.metrics import METRICS

NOTHING = "–"


def columns(report: BacktestReport) -> list[str]:
    """Headings."""
    after = f"{report.primary} after the change" if report.changes else None
    named = [
        "policy", "alarms true / false", "called after", "drift calls", "trainings (candidates)",
        "promoted / taken back", report.primary, after, "windows missed", "well again after",
    ]  # fmt: skip
    return [name for name in named if name is not None]


def row(report: BacktestReport, result: PolicyResult) -> list[str]:
    """One policy's."""
    rings = result.kind is not PolicyKind.ORACLE
    judges = result.kind in (PolicyKind.SETTING, PolicyKind.SCHEDULED)
    cells = [
        result.name,
        f"{result.true_alarms} / {result.false_alarms}" if rings else NOTHING,
        called(result.detections) if rings and report.changes else NOTHING,
        str(result.drift_calls) if judges else NOTHING,
        f"{result.retrainings} ({result.registered})",
        f"{result.promotions} / {result.rollbacks}" if judges else NOTHING,
        _number(result.value),
    ]
    if report.changes:
        cells.append(NOTHING if result.value_after is None else _number(result.value_after))
    return [*cells, str(result.missed_windows), again(result.detections)]


def called(detections: Sequence[Detection]) -> str:
    """How soon each change was called."""
    if not detections:
        return NOTHING
    return "; ".join(
        "not called" if one.delay is None else f"{span(one.delay)}, {one.labels:,} labels"
        for one in detections
    )


def again(detections: Sequence[Detection]) -> str:
    """How soon all was well after each change."""
    if not detections:
        return NOTHING
    return "; ".join(
        span(one.recovery) if one.recovery is not None else "never" if one.harmed else "no harm"
        for one in detections
    )


def span(length: timedelta) -> str:
    """A time as people read it.

    >>> span(timedelta(days=3, hours=6)), span(timedelta(minutes=90)), span(timedelta(days=40))
    ('3.2 d', '1.5 h', '40 d')
    """
    hours = length / timedelta(hours=1)
    if abs(hours) < 24:
        return f"{hours:.1f} h"
    days = hours / 24
    return f"{days:.0f} d" if days >= 10 or days == round(days) else f"{days:.1f} d"


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def notes(report: BacktestReport) -> list[str]:
    """What must be known to read the table."""
    worse = "below" if METRICS[report.primary].greater_is_better else "above"
    said = [
        f"{report.rows:,} rows of {report.source}, {report.start:%Y-%m-%d %H:%M} to "
        f"{report.end:%Y-%m-%d %H:%M} UTC, in steps of {span(report.tick)}; the first model learnt "
        f"from {report.trained_on:,} rows before it and was accepted at {report.primary} "
        f"{report.accepted:.4f}.",
        f"Labels come {report.labels_come}.",
        _changes(report),
        f"A window is missed where {report.primary} lies more than {report.fall:g} {worse} the "
        "accepted level, and further than chance allows. All windows are measured with every label "
        "that ever came; no policy saw a label before it came.",
        "Versions are taken to be healthy and equally quick; a training takes no simulated time.",
    ]
    if report.unlabelled:
        said.append(
            f"{report.unlabelled:,} of the rows never got a label that counts; they were answered "
            "and are not judged."
        )
    if report.refused:
        said.append(f"{report.refused:,} rows that a predictor would refuse were left out.")
    return said


def _changes(report: BacktestReport) -> str:
    if not report.changes:
        return f"There was no change, by {report.judged_by}; an alarm on a fall is true."
    at = ", ".join(f"{change:%Y-%m-%d %H:%M}" for change in report.changes)
    return f"The world changed at {at} UTC, by {report.judged_by}; alarms are true or false by it."
