"""What a person sees of a run: a line a step while it goes on, then a summary."""

import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from heliotrope.domain.evaluation import Evaluation, MetricValue
from heliotrope.domain.gate import GateReport
from heliotrope.domain.run_events import EventKind, RunEvent, RunOutcome
from heliotrope.vocabulary import (
    ALIAS_CANDIDATE,
    ARTIFACT_GATE,
    KEPT_EVALUATION,
    KEPT_EVALUATION_PAGE,
    KEPT_QUALITY_PAGE,
    Outcome,
    Verdict,
)

if TYPE_CHECKING:
    from heliotrope.bootstrap import Platform
    from heliotrope.ports import RunLog

_STYLE = {
    Outcome.REGISTERED: "bold green",
    Outcome.NOT_ACCEPTED: "bold yellow",
    Outcome.DATA_FAULT: "bold red",
    Outcome.FAILED: "bold red",
    Outcome.INTERRUPTED: "bold red",
}
_MARK = {Verdict.PASS: "✓", Verdict.HOLD: "…", Verdict.FAIL: "✗", Verdict.ERROR: "!"}
_COLOUR = {Verdict.PASS: "green", Verdict.HOLD: "yellow", Verdict.FAIL: "red", Verdict.ERROR: "red"}


_PAGES = {KEPT_QUALITY_PAGE: "what is in the data", KEPT_EVALUATION_PAGE: "how good it is"}
_STEP_WIDTH = 16
"""Of the longest step's name, refuse_candidate."""
_SECONDS_WIDTH = 8


class RunView:
    """Shows events as they come: on a terminal with a spinner, else as plain lines on stderr, so
    that a pipe or a CI log shows how far a long run is and stdout holds the summary alone."""

    def __init__(self, model: str, *, quiet: bool) -> None:
        self.console = Console(highlight=False)
        self._quiet = quiet
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self._task = self._progress.add_task(f"{model}: starting")
        self._model = model

    def __enter__(self) -> Self:
        """Start the spinner."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it, whatever happened."""
        self._progress.stop()

    def show(self, event: RunEvent) -> None:
        """One event."""
        if self._quiet:
            return
        if not self.console.is_terminal:
            if told := plain_line(event):
                typer.echo(told, err=True)
            return
        if event.kind is EventKind.STARTED:
            self._progress.update(self._task, description=f"{self._model}: {event.step}")
            return
        good = event.kind is EventKind.FINISHED
        line = _grid(1, _STEP_WIDTH, _SECONDS_WIDTH)
        line.add_row(
            Text("✓", "green") if good else Text("✗", "red"),
            Text(event.step),
            Text("" if event.seconds is None else f"{event.seconds:.1f} s", "dim", justify="right"),
            Text(event.text),
        )
        self._progress.console.print(line)

    def summary(self, outcome: RunOutcome, here: "Platform") -> None:
        """The end of a run: verdict with reasons, metrics beside the others', where to look."""
        out = self.console
        headline = outcome.outcome.replace("_", " ").upper()
        what = f"{outcome.model} {headline}"
        if outcome.version:
            what += f" as version {outcome.version}"
        if outcome.alias:
            what += f", {outcome.alias}"
        out.print(f"\n[{_STYLE[outcome.outcome]}]{what}[/]")
        out.print(outcome.reason, markup=False)
        self._evidence(here.runs.log(outcome.run_key))
        self._where_to_look(outcome, here)

    def _evidence(self, log: "RunLog") -> None:
        judged, measured = log.kept(ARTIFACT_GATE), log.kept(KEPT_EVALUATION)
        if judged is None or measured is None:
            return  # the run ended before the gate
        gate = GateReport.from_json(judged)
        self.console.print(f"\nGate: [{_COLOUR[gate.verdict]}]{gate.verdict}[/]")
        reasons = _grid(3, 5)
        for reason in gate.reasons:
            colour = _COLOUR[reason.verdict]
            reasons.add_row(
                Text(f"  {_MARK[reason.verdict]}", colour),
                Text(reason.verdict, colour),
                Text(reason.text),
            )
        self.console.print(reasons)
        self.console.print()
        self.console.print(metrics_table(Evaluation.from_json(measured)))

    def _where_to_look(self, outcome: RunOutcome, here: "Platform") -> None:
        model = outcome.model
        log = here.runs.log(outcome.run_key)
        places = []
        if outcome.version:
            command = f"heliotrope explain {model} {outcome.version}"
            places.append((command, "lineage and gate report"))
            places.append((f"heliotrope serve {model}", "answer requests"))
            if outcome.alias == ALIAS_CANDIDATE:
                places.append((f"heliotrope rollout status {model}", "how it becomes champion"))
        places.append(("heliotrope ui", "the run in MLflow, with its reports"))
        width = max(len(command) for command, _ in places)
        self.console.print("\nWhere to look")
        for command, what in places:
            self.console.print(f"  {command:{width}}  {what}", markup=False, soft_wrap=True)
        for page, what in _PAGES.items():
            place = Path(log.where) / page
            if place.is_file():
                self.console.print(f"  {place}  {what}", markup=False, soft_wrap=True)
        self.console.print(f"  {log.where}  artifacts and full log", markup=False, soft_wrap=True)


def plain_line(event: RunEvent) -> str | None:
    """A step's end as one line; None for its beginning."""
    if event.kind is EventKind.STARTED:
        return None
    took = "" if event.seconds is None else f"{event.seconds:.1f} s"
    mark = "ok" if event.kind is EventKind.FINISHED else "FAILED"
    said, *more = event.text.splitlines() or [""]
    text = f"{said} (and {len(more)} more)" if more else said
    return f"{event.step:{_STEP_WIDTH}} {mark:6} {took:>{_SECONDS_WIDTH}}  {text}".rstrip()


def _grid(*widths: int) -> Table:
    """Columns of fixed width, then one whose long text wraps within itself."""
    grid = Table.grid(padding=(0, 1))
    for width in widths:
        grid.add_column(width=width, no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def metrics_table(evaluation: Evaluation) -> Table:
    """Metrics of the candidate, the champion and the baselines on the same rows."""
    table = Table(title=f"Holdout, {evaluation.rows:,} rows", title_justify="left")
    table.add_column("metric")
    table.add_column("candidate", justify="right")
    if evaluation.champion:
        table.add_column(f"champion v{evaluation.champion_version}", justify="right")
    for name in evaluation.baselines:
        table.add_column(name, justify="right")
    for name, value in evaluation.metrics.items():
        style = "bold" if name == evaluation.primary else ""
        row = [name, str(value)]
        if evaluation.champion:
            row.append(_short(evaluation.champion.get(name)))
        row += [_short(values.get(name)) for values in evaluation.baselines.values()]
        table.add_row(*row, style=style)
    return table


def _short(value: MetricValue | None) -> str:
    if value is None:
        return ""
    return f"{value.value:.4f}" if math.isfinite(value.value) else "undefined"
