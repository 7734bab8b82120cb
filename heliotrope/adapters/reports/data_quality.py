"""The data quality report: what was found, the rows that show it, and what each column is like."""

from typing import Any

from heliotrope.adapters.reports.rendering import render
from heliotrope.domain.quality import ColumnProfile, Level, QualityReport

_BARS = 24


def render_quality_html(report: QualityReport) -> str:
    """One self-contained HTML page."""
    return render("data_quality.html.j2", **_values(report))


def render_quality_markdown(report: QualityReport) -> str:
    """The same in Markdown, for the pipeline's UI and a terminal."""
    return render("data_quality.md.j2", **_values(report))


def _values(report: QualityReport) -> dict[str, Any]:
    count = {level: sum(f.level is level for f in report.findings) for level in Level}
    fatal, warnings = count[Level.FATAL], count[Level.WARNING]
    if fatal:
        tone, verdict = "fatal", "Not usable"
        why = (
            f"{_times(fatal, 'fatal finding')}: nothing is trained on this data until it is mended."
        )
    elif warnings:
        tone, verdict = "warning", "Usable, with warnings"
        why = f"{_times(warnings, 'warning')}; training goes on."
    else:
        tone, verdict = "pass", "Usable"
        why = "Nothing wrong was found."
    return {
        "report": report,
        "tone": tone,
        "verdict": verdict,
        "why": why,
        "dropped": report.rows - report.usable_rows,
        "columns": [_column(profile) for profile in report.columns],
        "histogram": _BARS,
    }


def _times(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _column(profile: ColumnProfile) -> dict[str, Any]:
    top = list(profile.shares.items())
    return {
        "profile": profile,
        "missing": profile.nulls / profile.rows if profile.rows else 0.0,
        "median": profile.quantiles[50] if profile.quantiles else None,
        "bars": _histogram(profile),
        "top": top[:4],
        "more": max(0, profile.distinct - 4) if top else 0,
    }


def _histogram(profile: ColumnProfile) -> list[float]:
    """Heights, 0 to 1, of equal-width bins between the 1st and the 99th percentile."""
    if len(profile.quantiles) < 101:
        return []
    inner = profile.quantiles[1:-1]
    low, high = inner[0], inner[-1]
    if high <= low:
        return []
    bins = [0] * _BARS
    for value in inner:
        bins[min(_BARS - 1, int((value - low) / (high - low) * _BARS))] += 1
    return [held / max(bins) for held in bins]
