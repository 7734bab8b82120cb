"""A backtest as Markdown or as one self-contained page, with accuracy over time drawn."""

import base64
import math
from statistics import median
from typing import Any

from heliotrope.adapters.plots import draw_svg
from heliotrope.adapters.reports.rendering import cell, render
from heliotrope.domain.backtest.policy import PolicyKind
from heliotrope.domain.backtest.report import BacktestReport, DayPoint, PolicyResult
from heliotrope.domain.backtest.table import columns, notes, row
from heliotrope.spec.metrics import METRICS

_SIZE = (10.0, 4.2)
_SETTINGS = ("#6d3fa8", "#2563c9", "#c2570c", "#0f766e", "#a16207", "#b3261e")
_FEW = 10
"""A window with so many times fewer labels than usual is not drawn."""
_REFERENCES = {
    PolicyKind.NEVER: ("#8a8590", ":"),
    PolicyKind.SCHEDULED: ("#5f7a8a", "--"),
    PolicyKind.ORACLE: ("#1f7a4d", "-."),
}


def backtest_markdown(report: BacktestReport) -> str:
    """Table, notes and picture; the picture is in the file itself."""
    picture = base64.b64encode(_drawn(report).encode()).decode()
    return "\n".join(
        [
            f"# Backtest of {report.model}",
            "",
            *markdown_table(report),
            "",
            *(f"- {note}" for note in notes(report)),
            "",
            f"![{report.primary} over time](data:image/svg+xml;base64,{picture})",
            "",
        ]
    )


def markdown_table(report: BacktestReport) -> list[str]:
    """The comparison alone."""
    names = columns(report)
    lines = ["| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1)]
    lines += [
        "| " + " | ".join(cell(text) for text in row(report, result)) + " |"
        for result in report.policies
    ]
    return lines


def backtest_html(report: BacktestReport) -> str:
    """The same as a page, with what each policy did."""
    return render(
        "backtest.html.j2",
        report=report,
        columns=columns(report),
        rows=[row(report, result) for result in report.policies],
        notes=notes(report),
        picture=_drawn(report),
        settings=[one for one in report.policies if one.events],
    )


def _drawn(report: BacktestReport) -> str:
    return draw_svg("backtest", lambda axes: _lines(axes, report), _SIZE)


def _lines(axes: Any, report: BacktestReport) -> None:
    for change in report.changes:
        axes.axvline(change, color="#b3261e", lw=1, alpha=0.6)
    axes.axhline(report.accepted, color="#1f7a4d", lw=0.8, ls=(0, (1, 3)), label="accepted")
    places = iter(range(len(report.policies)))
    for result in report.policies:
        colour, style = _look(result, places)
        shown = drawn_points(result)
        axes.plot(
            [point.start for point in shown], [point.value for point in shown],
            color=colour, ls=style, lw=1.6, label=result.name,
        )  # fmt: skip
    better = "more" if METRICS[report.primary].greater_is_better else "less"
    title = f"{report.primary} by window, all labels known ({better} is better)"
    axes.set(title=title, xlabel="", ylabel="")
    axes.tick_params(axis="x", rotation=20)
    # Beside the lines no corner is free: where a metric is good depends on the metric.
    axes.figure.legend(loc="outside lower center", ncols=4, fontsize=8)


def drawn_points(result: PolicyResult) -> list[DayPoint]:
    """Windows that a line may go through: where history breaks off, a window of a few rows would
    draw a fall or a rise that is chance."""
    defined = [point for point in result.points if not math.isnan(point.value)]
    usual = median(point.rows for point in defined) if defined else 0
    return [point for point in defined if point.rows * _FEW >= usual]


def _look(result: PolicyResult, places: Any) -> tuple[str, str]:
    if result.kind in _REFERENCES:
        return _REFERENCES[result.kind]
    return _SETTINGS[next(places) % len(_SETTINGS)], "-"
