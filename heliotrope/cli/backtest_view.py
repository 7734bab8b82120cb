"""How a backtest looks on a terminal: a bar a policy, then one table."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from heliotrope.domain.backtest.policy import Policy
from heliotrope.domain.backtest.report import BacktestReport
from heliotrope.domain.backtest.table import columns, notes, row

_GAP = 3
"""Between two columns."""


def tables(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[Table]:
    """A line a policy where that fits; else a column a policy, so many beside each other as fit.

    Args:
        names: headings.
        rows: [policies, headings].
        width: of the terminal.
    """
    lines = [names, *rows]
    wide = [
        max(_longest_word(name), *(len(cells[place]) for cells in rows))
        for place, name in enumerate(names)
    ]
    if sum(wide) + _GAP * len(wide) - 1 <= width:
        return [_table(lines, wide)]
    first = max(map(len, names))
    found: list[Table] = []
    chosen: list[Sequence[str]] = [names]
    widths = [first]
    for cells in rows:
        # A policy's name and its cells may be broken at spaces, and a long name anywhere.
        own = min(max(12, *map(_longest_word, cells[1:])), max(map(len, cells)))
        if len(chosen) > 1 and sum(widths) + own + _GAP * (len(widths) + 1) - 1 > width:
            found.append(_table(list(zip(*chosen, strict=True)), widths))
            chosen, widths = [names], [first]
        chosen.append(cells)
        widths.append(own)
    return [*found, _table(list(zip(*chosen, strict=True)), widths)]


def _longest_word(text: str) -> int:
    return max(map(len, text.split()))


def _table(lines: Sequence[Sequence[str]], widths: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, (name, wide) in enumerate(zip(lines[0], widths, strict=True)):
        align: Literal["left", "right"] = "left" if place == 0 else "right"
        table.add_column(escape(name), justify=align, overflow="fold", width=wide)
    for cells in lines[1:]:
        table.add_row(*map(escape, cells))
    return table


class BacktestView:
    """Shows progress where a person looks (`service.backtest_comparing.Watcher`).

    Args:
        quiet: shows none.
    """

    def __init__(self, quiet: bool) -> None:
        self._console = Console(highlight=False)
        # On standard error, so that what is piped on holds the result alone.
        aside = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[at]}"),
            TimeElapsedColumn(), console=aside, disable=quiet or not aside.is_terminal,
            transient=True,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._reading: TaskID | None = None

    def __enter__(self) -> "BacktestView":
        """Begin."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._progress.stop()

    def reading(self, name: str) -> None:
        """The history is being read."""
        self._reading = self._progress.add_task(f"reading {name}", total=None, at="")

    def begins(self, policy: Policy, rows: int) -> None:
        """A policy begins."""
        if self._reading is not None:
            self._progress.remove_task(self._reading)
            self._reading = None
        self._tasks[policy.name] = self._progress.add_task(policy.name, total=rows, at="training")

    def at(self, policy: Policy, now: datetime, rows: int) -> None:
        """It has come so far."""
        self._progress.update(
            self._tasks[policy.name], advance=rows, at=f"{now:%Y-%m-%d}", refresh=False
        )

    def ends(self, policy: Policy) -> None:
        """It is over."""
        task = self._tasks[policy.name]
        total = next(t.total for t in self._progress.tasks if t.id == task)
        self._progress.update(task, completed=total, at="done")

    def table(self, report: BacktestReport, out: Path | None) -> None:
        """What came of it."""
        names = columns(report)
        rows = [row(report, result) for result in report.policies]
        for table in tables(names, rows, self._console.width):
            self._console.print(table)
        for note in notes(report):
            self._console.print(note, markup=False)
        if out is not None:
            self._console.print(f"Written to {out}", markup=False)
