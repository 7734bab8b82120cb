"""`heliotrope generate`: loans in any number, with known truth and trouble on demand."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from heliotrope.domain.synthetic import Fault, LoanKnobs

FIRST = datetime(2024, 1, 1)  # noqa: DTZ001 - UTC by definition
SCENARIOS = ("steady", "economy-turns", "renters-turn")


def register(app: typer.Typer) -> None:
    """Add `generate`."""
    app.command("generate")(generate)


def generate(
    output: Annotated[
        Path, typer.Argument(help="The Parquet file to write.", metavar="FILE.parquet")
    ],
    rows: int = typer.Option(100_000, help="How many loans."),
    seed: int = typer.Option(7, help="The same seed and options give the same loans."),
    start: Annotated[datetime, typer.Option(help="When the first is given, UTC.")] = FIRST,
    days: float = typer.Option(365.0, help="Length of the period they are spread over."),
    default_rate: float = typer.Option(0.02, help="Mean chance of default before any shift."),
    signal: float = typer.Option(1.3, help="How much the features tell; 0 is nothing."),
    clear_cut: bool = typer.Option(
        False, help="30% default and it is easy to foresee: accuracy means something (0.94)."
    ),
    scenario: str = typer.Option("steady", help=" | ".join(SCENARIOS)),
    turns_at: float = typer.Option(0.7, help="Share of the period before the scenario turns."),
    strength: float = typer.Option(0.6, help="Of the turn, 0 to 1."),
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="A data fault, KIND:COLUMN[:OTHER][@TIME], such as "
            "scale:annual_income@2024-09-01; may be repeated."
        ),
    ] = None,
    with_truth: bool = typer.Option(False, help="Add the true chance of default as a column."),
) -> None:
    """Write generated loans, fitted to real ones, to a Parquet file."""
    from heliotrope.adapters.loan_file import write_loans
    from heliotrope.domain import synthetic

    knobs = synthetic.LoanKnobs(
        rows=rows,
        seed=seed,
        start=start,
        days=days,
        default_rate=default_rate,
        signal=signal,
        faults=tuple(parse_fault(text) for text in fault or []),
    )
    if clear_cut:
        knobs = synthetic.clear_cut(knobs)
    knobs = with_scenario(knobs, scenario, turns_at, strength)
    written = write_loans(synthetic.LoanGenerator(knobs), output, with_truth)
    typer.echo(f"{written:,} loans in {output}")


def with_scenario(knobs: "LoanKnobs", name: str, after: float, strength: float) -> "LoanKnobs":
    """The knobs of a named scenario that turns after a share of its period.

    Raises:
        UsageError: the name or the share is none.
    """
    from heliotrope.domain import synthetic
    from heliotrope.errors import UsageError

    if name not in SCENARIOS:
        raise UsageError(f"--scenario must be one of {', '.join(SCENARIOS)}. Got {name}.")
    if not 0 <= after <= 1:
        raise UsageError(f"--turns-at must be between 0 and 1. Got {after}.")
    if name == "economy-turns":
        return synthetic.economy_turns(knobs, after, strength)
    return synthetic.renters_turn(knobs, after, strength) if name == "renters-turn" else knobs


def parse_fault(text: str) -> "Fault":
    """Read KIND:COLUMN[:OTHER][@TIME].

    Raises:
        UsageError: it is not that, with what it is.
    """
    from heliotrope.domain.synthetic import Fault, FaultKind
    from heliotrope.errors import UsageError

    body, at, moment = text.partition("@")
    kind, _, rest = body.partition(":")
    column, _, other = rest.partition(":")
    kinds = [item.value for item in FaultKind]
    if kind not in kinds:
        raise UsageError(f"--fault must begin with one of {', '.join(kinds)}. Got {text}.")
    try:
        start = datetime.fromisoformat(moment) if at else None
    except ValueError:
        raise UsageError(
            f"--fault must have a time such as 2024-09-01 after @. Got {moment}."
        ) from None
    return Fault(FaultKind(kind), column or "loan_id", start=start, other=other or None)
