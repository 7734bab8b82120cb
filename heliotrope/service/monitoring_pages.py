"""Monitoring in Markdown, as the KFP UI and a terminal show it."""

import math

from heliotrope.domain.drift import DriftReport
from heliotrope.domain.remedy import Diagnosis
from heliotrope.service.performance import Performance


def faults_markdown(report: DriftReport) -> str:
    """What is wrong with the rows."""
    lines = [f"# Data of {report.model}, {_window(report)}", ""]
    lines += [f"{report.rows:,} rows, {report.scored} of {report.expected} columns scored.", ""]
    if not report.faults:
        lines.append("Nothing is wrong with them.")
    lines += [f"- **{f.level}** `{f.check}`: {_cell(f.message)}" for f in report.faults]
    return "\n".join(lines) + "\n"


def drift_markdown(report: DriftReport) -> str:
    """Verdict, and every column."""
    sampled = ""
    if report.sampled_from and report.sampling_error is not None:
        sampled = (
            f" (an even sample of {report.sampled_from:,}: shares within "
            f"{report.sampling_error:.2%} of all rows', 99 times in 100)"
        )
    lines = [
        f"# Drift of {report.model} version {report.version}, {_window(report)}",
        "",
        f"**{report.verdict}.** {_cell(report.reason)}.",
        "",
        f"{report.rows:,} rows{sampled} against {report.reference_rows:,}; weighted score "
        f"{report.score:.3f}; {report.scored} of {report.expected} columns scored. So many rows "
        f"show a shift of {report.smallest_shift:.2f} sd of a column four times in five; at most "
        f"{report.rule.false_alarm:.0%} of windows are called drifted by chance.",
        "",
        "| column | verdict | effect | p | weight | in words |",
        "|---|---|---:|---:|---:|---|",
    ]
    ranked = sorted(report.columns, key=lambda c: -c.effect if math.isfinite(c.effect) else -99.0)
    lines += [
        f"| {_cell(c.column)} | {c.verdict} | {c.effect:.3f} | {c.p:.1g} | {c.weight:.0%} | "
        f"{_cell(c.text)} |"
        for c in ranked
    ]
    return "\n".join(lines) + "\n"


def drift_metrics(report: DriftReport) -> dict[str, float]:
    """The numbers for a table; what could not be scored is left out, and counted."""
    found = {
        "drift_score": report.score,
        "rows": float(report.rows),
        "columns_scored": float(report.scored),
        "columns_expected": float(report.expected),
        "columns_drifted": float(len(report.drifted)),
        "data_faults": float(len(report.fatal)),
    }
    scored = {f"drift.{c.column}": c.effect for c in report.columns if math.isfinite(c.effect)}
    return found | scored


def performance_markdown(found: Performance) -> str:
    """Metrics over the labels there are, and the estimate without labels."""
    lines = [f"# Performance of {found.model}", "", found.text + ".", ""]
    lines += ["| metric | from labels | promised by scores |", "|---|---:|---:|"]
    for name in sorted({*found.metrics, *found.estimate}):
        seen, promised = found.metrics.get(name), found.estimate.get(name)
        lines.append(f"| {name} | {_number(seen)} | {_number(promised)} |")
    return "\n".join(lines) + "\n"


def diagnosis_markdown(found: Diagnosis) -> str:
    """What changed, why it is thought so, what is to be done."""
    share = "" if found.share is None else f", {found.share:.0%} of the fall"
    lines = [
        f"# {found.kind.replace('_', ' ').capitalize()}: {found.remedy.replace('_', ' ')}",
        "",
        f"**{_cell(found.subject) or 'nothing'}**{share}. {_cell(found.reason)}",
        "",
        *(f"- {_cell(one)}" for one in found.evidence),
    ]
    if found.features:
        lines += ["", "| feature | expected loss | regained | share |", "|---|---:|---:|---:|"]
        lines += [
            f"| {_cell(p.feature)} | {p.expected:+.4f} | {p.regained:+.4f} | {p.share:.0%} |"
            for p in found.features
        ]
    return "\n".join(lines) + "\n"


def _window(report: DriftReport) -> str:
    if report.window_from is None or report.window_to is None:
        return "a window"
    return f"{report.window_from:%Y-%m-%d %H:%M} to {report.window_to:%Y-%m-%d %H:%M}"


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
