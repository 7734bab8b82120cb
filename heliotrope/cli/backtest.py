"""`heliotrope backtest SPEC --history FILE|log`: policies on history, side by side."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from heliotrope.domain.backtest.history import History
    from heliotrope.domain.backtest.report import BacktestReport
    from heliotrope.service.backtest import Span
    from heliotrope.spec import ModelSpec

_ENDINGS = (".md", ".html")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("backtest")(backtest)


def backtest(
    spec_file: Path = typer.Argument(..., help="The model's spec.", metavar="SPEC"),
    history: str = typer.Option(
        ..., help="Labelled rows in time order (CSV, Parquet, Delta), or `log`: the platform's own."
    ),
    wishes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="A setting of monitoring, retraining, rollout or gates, such as "
            "monitoring.k=1,2,3; several values make a grid, several options a larger one.",
        ),
    ] = None,
    change: Annotated[
        list[datetime] | None,
        typer.Option(help="When the world is known to have changed, UTC; may be repeated."),
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option(
            help="Rows before it train the first model, UTC; else a third, or those older than "
            "the log."
        ),
    ] = None,
    tick: str = typer.Option(
        "", help="Between two looks of the controller, such as 3h; an eighth of a window."
    ),
    seed: int | None = typer.Option(None, min=0, help="Of all trainings; else the spec's."),
    only: bool = typer.Option(
        False, "--only", help="Settings and `never` alone: no scheduled and no oracle retraining."
    ),
    out: Path | None = typer.Option(None, help="Table and picture, to FILE.md or FILE.html."),
    json_output: bool = typer.Option(False, "--json", help="Everything as JSON."),
) -> None:
    """Replay history under other settings, by the platform's own code on a simulated clock.

    Each setting is set beside `never` (nobody acts), `scheduled` (trains by the clock) and `oracle`
    (knows when the world changed). Alarms, delays, trainings, promotions, and how right users were
    answered are tabulated. Nothing of the platform is touched.
    """
    from heliotrope.backtest_parts import backtest_worlds, open_history
    from heliotrope.bootstrap import platform
    from heliotrope.cli.backtest_view import BacktestView
    from heliotrope.domain.backtest.policy import PolicyKind, references, settings
    from heliotrope.service.backtest_comparing import Question, compare
    from heliotrope.spec import load_spec

    _require_out(out)
    spec = _seeded(load_spec(spec_file), seed)
    policies, beside = settings(spec, wishes or []), references(spec)
    if only:
        beside = [policy for policy in beside if policy.kind is PolicyKind.NEVER]
    with BacktestView(quiet=json_output) as view:
        view.reading(history)
        rows = open_history(platform(), spec, history)
        span = _span(spec, rows, start, tick)
        changes = tuple(sorted(_utc(at) for at in change)) if change else None
        asked = Question(spec, policies, beside, span, changes)
        with backtest_worlds(rows, span.start) as make:
            report = compare(asked, rows, make, view)
    if out is not None:
        _write(report, out)
    if json_output:
        typer.echo(report.to_json(), nl=False)
    else:
        view.table(report, out)


def _seeded(spec: "ModelSpec", seed: int | None) -> "ModelSpec":
    if seed is None:
        return spec
    return spec.model_copy(update={"trainer": spec.trainer.model_copy(update={"seed": seed})})


def _span(spec: "ModelSpec", rows: "History", start: datetime | None, tick: str) -> "Span":
    from heliotrope.domain.backtest.history import start_within
    from heliotrope.service.backtest import Span, default_tick

    asked = None if start is None else _utc(start)
    chosen = start_within(spec, rows.first, rows.last, asked, rows.served_from)
    return Span(chosen, rows.last, _duration(tick) or default_tick(spec))


def _duration(text: str) -> timedelta | None:
    from heliotrope.errors import UsageError
    from heliotrope.spec.base import parse_duration

    if not text:
        return None
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--tick must {error}. Got {text!r}.") from None
    if found <= timedelta(0):
        raise UsageError(f"--tick must be longer than nothing. Got {text!r}.")
    return found


def _utc(at: datetime) -> datetime:
    from datetime import UTC

    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _require_out(out: Path | None) -> None:
    """Refuse before minutes are spent on what could not be kept."""
    from heliotrope.errors import UsageError

    if out is None:
        return
    if out.suffix.lower() not in _ENDINGS:
        raise UsageError(f"--out must end in {' or '.join(_ENDINGS)}. Got {out}.")
    if not out.parent.is_dir() or out.is_dir():
        raise UsageError(f"--out must be a file in a folder that is there. Got {out}.")


def _write(report: "BacktestReport", out: Path) -> None:
    from heliotrope.adapters.reports.backtest import backtest_html, backtest_markdown
    from heliotrope.adapters.whole_file import write_whole
    from heliotrope.errors import UsageError

    page = backtest_html(report) if out.suffix.lower() == ".html" else backtest_markdown(report)
    try:
        write_whole(out, page)
    except OSError as error:
        raise UsageError(f"--out must be writable. Got {error.strerror or error}.") from error
