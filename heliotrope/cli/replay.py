"""`heliotrope replay SPEC`: history against a running platform, in time order, labels late."""

from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliotrope.cli.generate import FIRST, SCENARIOS

if TYPE_CHECKING:
    from heliotrope.adapters.replay_access import Replayed, ReplayPlace
    from heliotrope.adapters.replay_rows import History
    from heliotrope.spec import ModelSpec

DEFAULT_GATEWAY = "http://127.0.0.1:8080"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("replay")(replay)


def replay(
    spec_file: Path = typer.Argument(..., help="The model's spec.", metavar="SPEC"),
    rows: str = typer.Option(
        "", help="History: CSV, Parquet or Delta, here or on S3; the spec's source if left out."
    ),
    scenario: str = typer.Option("", help=f"Generated loans instead: {' | '.join(SCENARIOS)}."),
    count: int = typer.Option(10_000, min=1, help="Loans of the scenario."),
    start: Annotated[datetime, typer.Option(help="When its first is given, UTC.")] = FIRST,
    days: float = typer.Option(30.0, help="Length of the scenario."),
    default_rate: float = typer.Option(0.02, help="Its mean chance of default."),
    signal: float = typer.Option(1.3, help="How much its features tell."),
    clear_cut: bool = typer.Option(False, help="30% default, easy to foresee."),
    turns_at: float = typer.Option(0.5, help="Share of it that passes before it turns."),
    strength: float = typer.Option(0.6, help="Of the turn, 0 to 1."),
    fault: Annotated[
        list[str] | None, typer.Option(help="A data fault, KIND:COLUMN[:OTHER][@TIME].")
    ] = None,
    since: str = typer.Option("", "--from", help="Leave out rows before this event time, UTC."),
    until: str = typer.Option("", help="Leave out rows at and after this event time, UTC."),
    rate: float | None = typer.Option(None, help="Rows a second, on average."),
    speed: float | None = typer.Option(None, help="Times as fast as it happened."),
    drive_clock: bool = typer.Option(
        False, help="Move the platform's simulated clock; it waits for rows that are late."
    ),
    hold_while_training: bool = typer.Option(
        False, help="Let the clock stand still while a training run goes on."
    ),
    label_delay: str = typer.Option(
        "", help="From a row to its label, by the platform's clock, such as 30s; else the spec's."
    ),
    label_share: float = typer.Option(1.0, help="Of the labels that are ever sent."),
    wait_for_labels: bool = typer.Option(
        True, help="Go on until the last label is due; else those left are kept in a file."
    ),
    labels_by: str = typer.Option("prediction", help="prediction | entity: what a label names."),
    seed: int = typer.Option(7, min=0, help="Of the scenario, and of the labels left out."),
    gateway: str = typer.Option("", help="Its address; that of the running platform if left out."),
    collector: str = typer.Option("", help="Its address; the running platform's if left out."),
    token_file: Path | None = typer.Option(None, help="Holds the collector's token."),
    protocol: str = typer.Option("v1", help="v1 | v2."),
    header: Annotated[
        list[str] | None, typer.Option(help="Sent with each request, such as 'Host: x.example'.")
    ] = None,
    connections: int = typer.Option(16, min=1, max=1000, help="Requests at once."),
    patience: float = typer.Option(
        30.0, min=0, help="Seconds without an answer after which a peer counts as gone."
    ),
    json_output: bool = typer.Option(False, "--json", help="The summary as JSON."),
) -> None:
    """Send rows to a gateway in the order of their time, and their labels late to the collector.

    On the machine's clock, rows go at --rate or --speed from now on, and the label delay shrinks
    as the time between rows does. On a simulated clock (`heliotrope up` started with one), rows go
    at their own event times; with --drive-clock this command runs the clock.

    Rows that the predictor refuses (4xx) are counted by reason. Unanswered ones are asked again
    three times. Labels are sent until the collector has them; if it stays away they are kept in a
    file for `heliotrope labels send`.

    Exit codes: 0 every row was sent; 6 gateway or collector went away; 130 interrupted.
    """
    from heliotrope.adapters.replay_access import ReplayWish, run_replay
    from heliotrope.cli.replay_view import ReplayView
    from heliotrope.errors import UsageError
    from heliotrope.spec import load_spec

    spec = load_spec(spec_file)
    span = (_moment(since, "--from"), _moment(until, "--until"))
    if rows and scenario:
        raise UsageError("--rows or --scenario may be given, not both.")
    if labels_by not in ("prediction", "entity"):
        raise UsageError(f"--labels-by must be prediction or entity. Got {labels_by}.")
    knobs = (count, start, days, default_rate, signal, clear_cut, turns_at, strength)
    source = (
        _generated(spec, scenario, knobs, fault or [], seed, span)
        if scenario
        else _history(spec, rows, span)
    )
    wish = ReplayWish(
        rate=rate,
        speed=speed,
        label_delay=_duration(label_delay),
        label_share=label_share,
        labels_by_entity=labels_by == "entity",
        seed=seed,
        drive_clock=drive_clock,
        hold_while_training=hold_while_training,
        protocol=protocol,
        headers=tuple(_header(text) for text in header or []),
        connections=connections,
        wait_for_labels=wait_for_labels,
        patience=patience,
    )
    place = place_of(gateway, collector, token_file)
    with ReplayView(spec.name, quiet=json_output) as view:
        done = run_replay(spec, source, place, wish, started=view.started, show=view.show)
    if json_output:
        typer.echo(done.summary.to_json(), nl=False)
    else:
        view.summary(done.summary)
    _end(done, spec.name)


def _end(done: "Replayed", model: str) -> None:
    if done.unsent is not None:
        typer.echo(
            f"{done.summary.labels_left:,} labels were not sent. They are kept; send them with: "
            f"heliotrope labels send {done.unsent} --model {model}",
            err=True,
        )
    if done.error is not None:
        raise done.error
    if done.interrupted:
        raise typer.Exit(130)


def _history(
    spec: "ModelSpec", rows: str, span: tuple[datetime | None, datetime | None]
) -> "AbstractContextManager[History]":
    from heliotrope.adapters.replay_rows import history_rows
    from heliotrope.bootstrap import platform
    from heliotrope.spec import Source

    source = Source(path=rows) if rows else spec.source
    return history_rows(platform().reader, spec, source, *span)


def _generated(
    spec: "ModelSpec",
    scenario: str,
    knobs: tuple[int, datetime, float, float, float, bool, float, float],
    faults: list[str],
    seed: int,
    span: tuple[datetime | None, datetime | None],
) -> "AbstractContextManager[History]":
    from heliotrope.adapters.replay_rows import generated_rows
    from heliotrope.cli.generate import parse_fault, with_scenario
    from heliotrope.domain import synthetic

    count, start, days, default_rate, signal, clear_cut, turns_at, strength = knobs
    asked = synthetic.LoanKnobs(
        rows=count,
        seed=seed,
        start=start,
        days=days,
        default_rate=default_rate,
        signal=signal,
        faults=tuple(parse_fault(text) for text in faults),
    )
    if clear_cut:
        asked = synthetic.clear_cut(asked)
    return nullcontext(
        generated_rows(with_scenario(asked, scenario, turns_at, strength), spec, *span)
    )


def place_of(gateway: str, collector: str, token_file: Path | None) -> "ReplayPlace":
    """Where a replay goes: what is given, else the running platform's, else the usual ports."""
    import os

    from heliotrope.adapters.embedded.supervisor.clock_file import clock_path
    from heliotrope.adapters.embedded.supervisor.state import folder_of, running_supervisor
    from heliotrope.adapters.replay_access import ReplayPlace
    from heliotrope.cli.labels import collector_address, token_of
    from heliotrope.settings import Settings
    from heliotrope.vocabulary import ENV_CLOCK

    home = Settings.parse(os.environ, Path.cwd()).home
    state = running_supervisor(home)
    urls = state.urls if state is not None else {}
    given = os.environ.get(ENV_CLOCK)
    clock = Path(given) if given else clock_path(folder_of(home)) if state else None
    return ReplayPlace(
        gateway=gateway or urls.get("gateway") or DEFAULT_GATEWAY,
        collector=collector_address(collector),
        token=token_of(token_file),
        home=home,
        clock=clock,
    )


def _moment(text: str, option: str) -> datetime | None:
    from datetime import UTC

    from heliotrope.errors import UsageError

    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} must be a time such as 2024-03-01. Got {text!r}.") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _duration(text: str) -> timedelta | None:
    from heliotrope.errors import UsageError
    from heliotrope.spec.base import parse_duration

    try:
        return parse_duration(text) if text else None
    except ValueError as error:
        raise UsageError(f"--label-delay must {error}. Got {text!r}.") from None


def _header(text: str) -> tuple[str, str]:
    from heliotrope.errors import UsageError

    name, colon, value = text.partition(":")
    if not colon or not name.strip() or any(c in text for c in "\r\n"):
        raise UsageError(f"--header must be NAME: VALUE. Got {text!r}.")
    return name.strip(), value.strip()
