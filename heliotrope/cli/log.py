"""`heliotrope log MODEL`: what was decided, by whom, why; and whether the log is as written."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from heliotrope.domain.decisions import Decision, DecisionKind
    from heliotrope.ports.state import StateStore


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("log")(log)


def log(
    model: str = typer.Argument(..., help="The model's name."),
    since: str | None = typer.Option(
        None, help="Leave out older ones: a time such as 2026-03-01, or a duration such as 7d."
    ),
    kind: list[str] = typer.Option(
        [], help="Only these: verdict, alarm, diagnosis, trigger, run, rollout, ... Repeatable."
    ),
    limit: int = typer.Option(50, "-n", min=1, help="At most so many, the newest."),
    verify: bool = typer.Option(
        False, "--verify", help="Check every entry's hash instead; exit code 1 where one is wrong."
    ),
    json_output: bool = typer.Option(False, "--json", help="With all evidence, as JSON."),
) -> None:
    """Show what was decided on a model: when, what, by whom, why; oldest first."""
    import json
    import os

    from rich.console import Console

    from heliotrope.bootstrap import platform
    from heliotrope.cli.truth import parse_since
    from heliotrope.clock import clock_of
    from heliotrope.errors import NotFoundError

    state = platform().state
    kinds = [_kind(name) for name in kind]
    if state.head(model)[0] == 0 and not state.decisions(model, limit=1):
        known = ", ".join(state.models()) or "no model"
        raise NotFoundError(
            f"Something must have been decided on {model} to be shown. Nothing was yet; "
            f"there are decisions on {known}."
        )
    if verify:
        typer.echo(verified(state, model))
        return
    start = None if since is None else parse_since(since, clock_of(os.environ).now())
    found = state.decisions(model, since=start, kinds=kinds, limit=limit)
    if json_output:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=2))
        return
    Console(highlight=False).print(decisions_table(model, found))


def verified(state: "StateStore", model: str) -> str:
    """What to say of a log that is whole; a broken one ends the command.

    Raises:
        typer.Exit: an entry is not what was written; it is named.
    """
    from heliotrope.domain.decisions import FIRST, first_broken
    from heliotrope.errors import DataFault

    try:
        found = state.decisions(model)
    except DataFault as error:
        typer.echo(f"BROKEN: {error}", err=True)
        raise typer.Exit(1) from error
    broken = first_broken(found)
    if broken is not None:
        typer.echo(
            f"BROKEN at entry {broken.sequence} ({broken.at:%Y-%m-%d %H:%M:%S} UTC, "
            f"{broken.kind}: {broken.reason}): it, or the one before, is not what was written.",
            err=True,
        )
        raise typer.Exit(1)
    last = (found[-1].sequence, found[-1].hash) if found else (0, FIRST)
    # Read after the log: entries may have been added since, and none taken away.
    sequence, digest = state.head(model)
    if sequence < last[0] or (sequence == last[0] and digest != last[1]):
        typer.echo(f"BROKEN: the log's end, entry {last[0]}, is not its newest link.", err=True)
        raise typer.Exit(1)
    if sequence > last[0] and len(state.decisions(model, limit=sequence)) < sequence:
        typer.echo(
            f"BROKEN after entry {last[0]}: {sequence - last[0]} at the end are missing.", err=True
        )
        raise typer.Exit(1)
    return f"{len(found)} entries, every one as it was written; the newest is {last[1][:12]}."


def decisions_table(model: str, found: "Sequence[Decision]") -> "Table":
    """Decisions, one a row."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=model, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("at (UTC)", no_wrap=True)
    for name in ("what", "on", "who"):
        table.add_column(name)
    table.add_column("why", ratio=1)
    for one in found:
        cells = (f"{one.at:%m-%d %H:%M:%S}", one.kind.value, one.subject, one.actor, one.reason)
        table.add_row(str(one.sequence), *(Text(cell) for cell in cells))
    return table


def _kind(name: str) -> "DecisionKind":
    from heliotrope.domain.decisions import DecisionKind
    from heliotrope.errors import UsageError

    try:
        return DecisionKind(name)
    except ValueError:
        raise UsageError(
            f"--kind must be one of {', '.join(DecisionKind)}. Got {name!r}."
        ) from None
