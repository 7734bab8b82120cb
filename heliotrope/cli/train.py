"""`heliotrope train SPEC`: the training pipeline on this machine, with progress and a summary."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from heliotrope.domain.run_events import RunOutcome


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    spec_file: Path = typer.Argument(..., help="The model's spec.", metavar="SPEC"),
    cause: str = typer.Option("person", help="Why, for the lineage."),
    json_output: bool = typer.Option(False, "--json", help="The outcome as JSON."),
    require_pass: bool = typer.Option(
        False, "--require-pass", help="Exit code 5 when the gate does not let the candidate in."
    ),
) -> None:
    """Snapshot, validate, train, evaluate, gate and register one model.

    Exit codes: 0 registered, or not accepted by the gate (5 with --require-pass); 2 the spec is
    wrong; 4 the data has a fatal fault; 1 a step broke; 130 interrupted.
    """
    import os
    import secrets

    from heliotrope.bootstrap import platform
    from heliotrope.cli.run_view import RunView
    from heliotrope.clock import clock_of
    from heliotrope.service.training_launch import Launch, launch_training, name_run
    from heliotrope.spec import load_spec

    spec = load_spec(spec_file)
    here = platform()
    run_key = name_run(spec, clock_of(os.environ).now(), secrets.token_hex(3))
    launch = Launch(spec=spec, run_key=run_key, cause=cause, python_path=spec_file.resolve().parent)
    with RunView(spec.name, quiet=json_output) as view:
        outcome = launch_training(launch, here.runs, lambda: here.registry, view.show)
    if json_output:
        typer.echo(outcome.to_json(), nl=False)
    else:
        view.summary(outcome, here)
    raise typer.Exit(exit_code(outcome, require_pass))


def exit_code(outcome: "RunOutcome", require_pass: bool) -> int:
    """The exit code that says how a run ended."""
    from heliotrope.errors import DataFault, HeliotropeError, NotAccepted
    from heliotrope.vocabulary import Outcome

    return {
        Outcome.REGISTERED: 0,
        Outcome.NOT_ACCEPTED: NotAccepted.exit_code if require_pass else 0,
        Outcome.DATA_FAULT: DataFault.exit_code,
        Outcome.FAILED: HeliotropeError.exit_code,
        Outcome.INTERRUPTED: 130,
    }[outcome.outcome]
