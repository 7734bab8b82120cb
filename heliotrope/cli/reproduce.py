"""`heliotrope reproduce MODEL VERSION`: train it again and compare the bits."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from heliotrope.service.reproduction import Reproduction


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reproduce")(reproduce)


def reproduce(
    model: str = typer.Argument(..., help="The model's name."),
    version: str = typer.Argument(..., help="A version's number or an alias."),
    path: Path | None = typer.Option(
        None, "--path", help="Folder of the spec's own trainer module, where it has one."
    ),
    json_output: bool = typer.Option(False, "--json", help="The outcome as JSON."),
) -> None:
    """Train a version again from its recorded snapshot, spec and seed, and compare.

    Exit codes: 0 the model files are the same bit for bit; 8 they are not; 3 the version, its
    lineage or its snapshot is not there.
    """
    import sys

    from rich.console import Console

    from heliotrope.adapters.scratch import scratch_folder
    from heliotrope.bootstrap import platform
    from heliotrope.errors import ParityError
    from heliotrope.service import reproduction
    from heliotrope.service.lineage import choose

    if path is not None:
        sys.path.insert(0, str(path.resolve()))
    here = platform()
    chosen = choose(here.registry, model, version)
    with scratch_folder() as scratch:
        outcome = reproduction.reproduce(
            here.registry, here.retraining, chosen, here.code_identity(), scratch
        )
    if json_output:
        typer.echo(outcome.to_json(), nl=False)
    else:
        show(Console(), outcome)
    same = outcome.sameness is reproduction.Sameness.SAME_BITS
    raise typer.Exit(0 if same else ParityError.exit_code)


def show(console: "Console", outcome: "Reproduction") -> None:
    """Say what came back, and what is not as it was."""
    from rich.table import Table

    from heliotrope.service.reproduction import Sameness

    said = {
        Sameness.SAME_BITS: "[green]the same model, bit for bit[/]",
        Sameness.SAME_SCORES: "[yellow]other bits, the same scores[/]",
        Sameness.DIFFERENT: "[red]another model[/]",
    }[outcome.sameness]
    console.print(
        f"[bold]{outcome.model} {outcome.version}[/] trained again from snapshot "
        f"{outcome.snapshot_version} with seed {outcome.seed}: {said}",
        highlight=False,
    )
    for file in outcome.files:
        mark = "=" if file.same else "≠"
        console.print(
            f"  {file.name:12} {file.recorded[:16]} {mark} {file.retrained[:16]}", highlight=False
        )
    if outcome.largest_score_difference is not None:
        console.print(
            f"  scores differ by at most {outcome.largest_score_difference:.3g} "
            f"over {outcome.rows:,} holdout rows",
            highlight=False,
        )
    if not outcome.changes:
        console.print("  Code and environment are as they were.")
        return
    table = Table("not as it was", "then", "now", title="Since then", title_justify="left")
    for change in outcome.changes:
        table.add_row(change.what, _short(change.then), _short(change.now))
    console.print(table)


def _short(value: str) -> str:
    head, _, tail = value.partition(" ")
    return (head[:12] if len(head) >= 40 else head) + (f" {tail}" if tail else "")
