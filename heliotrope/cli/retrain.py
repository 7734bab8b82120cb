"""`heliotrope retrain MODEL --why TEXT`, and `heliotrope triggers MODEL`."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from heliotrope.domain.triggers import Trigger
    from heliotrope.service.retraining import RetrainingDoor


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("retrain")(retrain)
    app.command("triggers")(triggers)


def retrain(
    model: str = typer.Argument(..., help="The model's name."),
    why: str = typer.Option(..., help="Why; it is kept with your name."),
    force: bool = typer.Option(
        False, "--force", help="Also after too many failed candidates in a row, and count anew."
    ),
    spec_file: Path | None = typer.Option(
        None, "--spec", help="The model's spec; the champion's when left out."
    ),
    json_output: bool = typer.Option(False, "--json", help="What was decided, as JSON."),
) -> None:
    """Order a retraining; the run goes on by itself, with or without a controller.

    It still waits for a run that is under way and for the daily budget. Exit codes: 0 started or
    waiting; 7 refused.
    """
    import getpass
    import os

    from heliotrope.clock import clock_of
    from heliotrope.domain.triggers import Cause, CauseKind, TriggerState
    from heliotrope.errors import ConflictError, UsageError

    if not why.strip():
        raise UsageError("--why must say why. Got nothing.")
    now = clock_of(os.environ).now()
    door = _door(model, spec_file)
    door.settle(now)
    person = getpass.getuser()
    cause = Cause(
        kind=CauseKind.PERSON,
        key=f"{person} {now.isoformat()}",
        model=model,
        text=why.strip(),
        asked_at=now,
        person=person,
        forced=force,
    )
    trigger = door.ask(cause, now)
    if json_output:
        typer.echo(trigger.to_json(), nl=False)
    elif trigger.state is TriggerState.WAITING:
        typer.echo(f"Waits ({trigger.rule}): {trigger.reason}. A controller starts it then.")
    elif trigger.state is not TriggerState.REFUSED:
        typer.echo(f"Started {trigger.cause.run_key}. See: heliotrope triggers {model}")
    if trigger.state is TriggerState.REFUSED:
        raise ConflictError(f"The order is refused ({trigger.rule}): {trigger.reason}.")


def triggers(
    model: str = typer.Argument(..., help="The model's name."),
    spec_file: Path | None = typer.Option(
        None, "--spec", help="The model's spec; the champion's when left out."
    ),
    limit: int = typer.Option(20, "-n", min=1, help="At most so many, the newest."),
    json_output: bool = typer.Option(False, "--json", help="With all evidence, as JSON."),
) -> None:
    """Show what asked for a retraining, what was decided, and why; the latest first."""
    import json
    import os

    from rich.console import Console

    from heliotrope.clock import clock_of

    door = _door(model, spec_file)
    door.settle(clock_of(os.environ).now())
    found = [trigger for _, trigger in door.facts.triggers()]
    if json_output:
        shown = [one.model_dump(mode="json") | {"run_key": one.run_key} for one in found[:limit]]
        typer.echo(json.dumps(shown, indent=2))
        return
    if not found:
        typer.echo(f"Nothing has asked for a retraining of {model} yet.")
        return
    Console(highlight=False).print(triggers_table(model, found[:limit]))


def triggers_table(model: str, found: "Sequence[Trigger]") -> "Table":
    """Triggers, one a row."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=model, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("asked (UTC)", no_wrap=True)
    table.add_column("cause", no_wrap=True)
    table.add_column("decided", no_wrap=True)
    table.add_column("what and why", ratio=1)
    for one in found:
        decided = one.outcome.value.replace("_", " ") if one.outcome else one.state.value
        version = f" (version {one.version})" if one.version else ""
        rule = "" if one.requested_at else f"{one.rule}: "
        who = f"{one.cause.person}: " if one.cause.person else ""
        why = f"{who}{one.cause.text}\n→ {rule}{one.reason}{version}"
        if one.run_key:
            why += f"\n  {one.run_key}"
        asked = f"{one.cause.asked_at:%m-%d %H:%M}"
        table.add_row(asked, one.cause.kind.value, decided, Text(why))
    return table


def _door(model: str, spec_file: Path | None) -> "RetrainingDoor":
    from heliotrope.bootstrap import platform
    from heliotrope.cli.truth import spec_of
    from heliotrope.service.retraining import RetrainingDoor
    from heliotrope.service.retraining_facts import RetrainingTools

    here = platform()
    tools = RetrainingTools(
        state=here.state,
        registry=lambda: here.registry,
        launcher=here.runs,
        python_path=spec_file.resolve().parent if spec_file else None,
    )
    return RetrainingDoor(spec_of(model, spec_file), tools)
