"""How a replay looks on a terminal: one line while it runs, a few at its end."""

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from heliotrope.adapters.replay_rows import History
    from heliotrope.domain.replay import ReplayPlan
    from heliotrope.service.replay_counts import ReplayCounts, ReplaySummary

_WIDTH = 24


class ReplayView:
    """Shows progress on standard error, so that standard output stays the summary's."""

    def __init__(self, model: str, quiet: bool = False) -> None:
        self._model = model
        self._out, self._err = Console(), Console(stderr=True)
        self._live = Live(
            console=self._err, refresh_per_second=8, transient=True, auto_refresh=False
        )
        self._quiet = quiet or not self._err.is_terminal
        self._count, self._began = 0, time.monotonic()

    def __enter__(self) -> "ReplayView":
        """Begin to show."""
        if not self._quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop showing."""
        if not self._quiet:
            self._live.stop()

    def started(self, history: "History", plan: "ReplayPlan") -> None:
        """Say what will be sent."""
        self._count, self._began = history.count, time.monotonic()
        if self._quiet:
            return
        later = "" if abs(plan.shift) < timedelta(seconds=1) else f", {plan.shift.days:+,} days"
        self._err.print(
            f"{history.count:,} rows of {history.first:%Y-%m-%d} to {history.last:%Y-%m-%d}{later}"
            f"; labels {plan.delay} after",
            highlight=False,
        )

    def show(self, counts: "ReplayCounts", now: datetime) -> None:
        """Renew the line."""
        if self._quiet:
            return
        done = counts.sent / max(self._count, 1)
        full = round(done * _WIDTH)
        rate = counts.sent / max(time.monotonic() - self._began, 1e-6)
        versions = ", ".join(f"v{v} {n:,}" for v, n in sorted(counts.answered.items()))
        parts = [
            f"{now.astimezone(UTC):%Y-%m-%d %H:%M}",
            f"{'━' * full}{'╌' * (_WIDTH - full)} {done:4.0%}",
            f"{counts.sent:,} rows, {rate:,.0f}/s",
            f"answered {versions or 'none'}",
            f"labels {counts.labels_sent:,}",
        ]
        for name, count in (("refused", counts.refused), ("failed", counts.failed)):
            if count:
                parts.append(f"{name} {count.total():,}")
        self._live.update(Text("  ".join(parts), overflow="ellipsis", no_wrap=True), refresh=True)

    def summary(self, summary: "ReplaySummary") -> None:
        """Say what became of everything."""
        table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column()
        for name, text in _lines(summary):
            table.add_row(name, Text(text))
        self._out.print(table)


def _lines(summary: "ReplaySummary") -> list[tuple[str, str]]:
    latency = summary.latency
    lines = [
        ("rows", f"{summary.sent:,} in {summary.seconds:.1f} s, {summary.rows_a_second:,.0f}/s"),
        ("answered", ", ".join(f"version {v}: {n:,}" for v, n in summary.answered.items())),
    ]
    lines += [("refused", f"{count:,}  {reason}") for reason, count in summary.refused.items()]
    lines += [("failed", f"{count:,}  {reason}") for reason, count in summary.failed.items()]
    if latency is not None:
        text = f"p50 {latency.p50:.1f} ms, p99 {latency.p99:.1f} ms, max {latency.max:.0f} ms"
        lines.append(("latency", text))
    lines.append(("labels", f"{summary.labels_sent:,} sent"))
    lines += [
        ("labels refused", f"{count:,}  {reason}")
        for reason, count in summary.labels_refused.items()
    ]
    if summary.latest_behind > 1:
        lines.append(("late", f"by up to {summary.latest_behind:.1f} s of this machine's time"))
    return [(name, text or "none") for name, text in lines]
