"""`heliotrope truth MODEL`: how right a model was, window by window, as far as labels tell."""

import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from heliotrope.domain.truth.documents import DelayQuantiles, Estimate, WindowTruth
    from heliotrope.spec import ModelSpec


ROOMY = 120
"""Columns of a terminal from which everything is shown."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("truth")(truth)


def truth(
    model: str = typer.Argument(..., help="The model's name."),
    since: str | None = typer.Option(
        None, help="Leave out older windows: a time such as 2026-03-01, or a duration such as 7d."
    ),
    json_output: bool = typer.Option(False, "--json", help="Everything, as JSON."),
    spec_file: Path | None = typer.Option(
        None, "--spec", help="The model's spec; the champion's when left out."
    ),
    slices: bool = typer.Option(False, "--slices", help="Show the spec's slices too."),
    from_scratch: bool = typer.Option(
        False, "--from-scratch", help="Compute from the tables alone, without the kept state."
    ),
    engine: str = typer.Option("duckdb", help="duckdb, or spark where one machine is outgrown."),
) -> None:
    """Join predictions with the labels that came, and show accuracy by window of prediction time.

    Takes in what is new, unless a controller is just doing so. Numbers of windows that are not
    mature may still change, and are dimmed.
    """
    from heliotrope.adapters.truth_access import TruthEngineName
    from heliotrope.bootstrap import platform
    from heliotrope.clock import clock_of
    from heliotrope.errors import ConflictError, UsageError

    if engine not in list(TruthEngineName):
        raise UsageError(f"--engine must be duckdb or spark. Got {engine!r}.")
    now = clock_of(os.environ).now()
    start = None if since is None else parse_since(since, now)
    here = platform()
    spec = spec_of(model, spec_file)
    with here.truth(spec, engine) as opened:
        if from_scratch:
            found = opened.recomputed(now, start)
        else:
            try:
                while opened.tick(now).behind:
                    pass
            except ConflictError:
                typer.echo("A controller is taking in new events; shown as of its last.", err=True)
            found = opened.windows(now, start)
    shown = [window for window in found if slices or window.slice is None]
    show(model, shown, found if json_output else None)


def spec_of(model: str, spec_file: Path | None) -> "ModelSpec":
    """The spec in a file, or the one the champion was trained with.

    Raises:
        UsageError: the file is another model's.
        NotFoundError: no champion is registered.
    """
    from heliotrope.bootstrap import platform
    from heliotrope.errors import NotFoundError, UsageError
    from heliotrope.spec import load_spec, parse_spec
    from heliotrope.vocabulary import ALIAS_CHAMPION, ARTIFACT_SPEC

    if spec_file is not None:
        spec = load_spec(spec_file)
        if spec.name != model:
            raise UsageError(f"--spec must be {model}'s. Got {spec.name}'s ({spec_file}).")
        return spec
    registry = platform().registry
    champion = registry.by_alias(model, ALIAS_CHAMPION)
    if champion is None:
        raise NotFoundError(
            f"{model} must have a registered champion, or --spec be given. There is no champion."
        )
    return parse_spec(registry.read_text(champion.run_id, ARTIFACT_SPEC), model)


def parse_since(text: str, now: datetime) -> datetime:
    """A time (UTC where it names no zone), or how long before now.

    Raises:
        UsageError: it is neither.

    >>> parse_since("36h", datetime(2026, 3, 2, 12, tzinfo=UTC)).isoformat()
    '2026-03-01T00:00:00+00:00'
    """
    from heliotrope.errors import UsageError
    from heliotrope.spec.base import parse_duration

    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--since must be a time such as 2026-03-01T06:00 or a duration such as 7d. "
            f"Got {text!r}."
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def show(
    model: str, windows: Sequence["WindowTruth"], whole: Sequence["WindowTruth"] | None
) -> None:
    """Print windows as a table, or all of them as JSON where `whole` is given."""
    from rich.console import Console

    if whole is not None:
        import json

        typer.echo(json.dumps([json.loads(window.model_dump_json()) for window in whole], indent=2))
        return
    if not windows:
        typer.echo(f"No prediction of {model} is logged in that time.")
        return
    console = Console()
    roomy = console.width >= ROOMY
    console.print(windows_table(model, windows, roomy))
    if any(one.unreliable for window in windows for one in window.estimate.values()):
        console.print("! mature labels contradict the estimate: what features mean has changed.")
    told = "[95% interval]; label delay is p50/p90/p99." if roomy else (
        f"[95% interval]; {ROOMY} columns or --json show counts of labels, their delay and more."
    )  # fmt: skip
    console.print(told, style="dim", markup=False)


def windows_table(model: str, windows: Sequence["WindowTruth"], roomy: bool = True) -> "Table":
    """Windows as a person reads them, oldest first; where there is no room, less of each."""
    from rich import box
    from rich.table import Table

    primary = windows[0].primary
    table = Table(
        title=f"{model}: {primary}", title_justify="left", title_style="bold",
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True,
    )  # fmt: skip
    sliced = any(window.slice is not None for window in windows)
    table.add_column("window (UTC)" if roomy else "window", no_wrap=True)
    table.add_column("version", no_wrap=True)
    if sliced:
        table.add_column("slice")
    table.add_column("predicted" if roomy else "rows", justify="right", no_wrap=True)
    table.add_column("labelled", justify="right", no_wrap=True)
    table.add_column(primary, no_wrap=True)
    table.add_column("estimate", no_wrap=True)
    if roomy:
        table.add_column("label delay", no_wrap=True)
    table.add_column("state")
    for window in windows:
        metric, estimate = window.metrics[primary], window.estimate.get(primary)
        table.add_row(
            _span(window.window_from, window.window_to),
            f"{window.version} {window.role}".strip(),
            *([window.slice or "all"] if sliced else []),
            f"{window.predicted:,}",
            f"{window.labelled:,} ({window.coverage:.0%})" if roomy else f"{window.coverage:.0%}",
            _number(metric.value, metric.low, metric.high, roomy),
            _estimate(estimate, roomy),
            *([_delay(window.delay)] if roomy else []),
            "mature" if window.maturity.mature else window.maturity.value,
            style=None if window.maturity.mature else "dim",
        )
    return table


def _span(start: datetime, end: datetime) -> str:
    if (end - start).total_seconds() % 86_400 == 0 and start.hour == start.minute == 0:
        return f"{start:%Y-%m-%d}"
    return f"{start:%Y-%m-%d %H:%M}"


def _number(value: float, low: float, high: float, roomy: bool) -> str:
    if math.isnan(value):
        return "-"
    shown, edges = (f"{value:.4f}", 3) if roomy else (f"{value:.3f}", 2)
    # A backslash, since rich reads [...] as a style.
    return shown if math.isnan(low) else f"{shown} \\[{low:.{edges}f}, {high:.{edges}f}]"


def _estimate(estimate: "Estimate | None", roomy: bool) -> str:
    if estimate is None:
        return "-"
    mark = "! " if estimate.unreliable else ""
    if not roomy:
        return f"{mark}{estimate.value:.3f}"
    return mark + _number(estimate.value, estimate.low, estimate.high, roomy)


def _delay(delay: "DelayQuantiles | None") -> str:
    if delay is None:
        return "-"
    return "/".join(_seconds(part) for part in (delay.p50, delay.p90, delay.p99))


def _seconds(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.1f}s"
