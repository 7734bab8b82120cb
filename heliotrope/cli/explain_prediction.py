"""`heliotrope explain --prediction ID`: from one answer to everything behind it."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from heliotrope.domain.trace import LoggedAnswer
    from heliotrope.service.tracing import Trace, TracedAnswer, TracedVersion


def explain_prediction(wanted: str, model: str | None, json_output: bool) -> None:
    """Find a prediction and print, or dump, what is behind it."""
    from rich.console import Console

    from heliotrope.bootstrap import platform
    from heliotrope.service.tracing import trace

    here = platform()
    found = trace(here.answers, here.outcomes, here.registry, here.state, wanted, model)
    if json_output:
        typer.echo(found.to_json(), nl=False)
    else:
        show_trace(Console(), found)


def show_trace(console: "Console", found: "Trace") -> None:
    """Print a trace: the answers, then each version that gave them."""
    from heliotrope.cli.explain import plain

    for traced in found.answers:
        _answer(console, traced)
    for version in found.versions:
        console.print()
        _version(console, version)
    for missing in found.missing:
        console.print(f"[yellow]Not there:[/] {plain(missing)}", highlight=False)


def _answer(console: "Console", traced: "TracedAnswer") -> None:
    from heliotrope.cli.explain import plain, section

    answer, label = traced.answer, traced.label
    console.print(
        f"[bold]Prediction {plain(answer.prediction_id)}[/] by {plain(answer.model)} version "
        f"{plain(answer.version)} as {plain(answer.role)}",
        highlight=False,
    )
    rows = {
        "answered": f"{answer.predicted_at:%Y-%m-%d %H:%M:%S.%f} UTC{_latency(answer)}",
        "answer": f"{answer.prediction}{_score(answer)}",
        "label": "none yet",
    }
    if label is not None:
        judged = {True: ": right", False: ": wrong", None: ""}[label.right]
        rows["label"] = f"{label.label}, came {label.received_at:%Y-%m-%d %H:%M:%S} UTC{judged}"
    if answer.entity_key is not None:
        rows["entity"] = answer.entity_key
    rows["features"] = ", ".join(
        f"{name}={'missing' if value is None else value}" for name, value in answer.features.items()
    )
    section(console, "Answer", rows)


def _latency(answer: "LoggedAnswer") -> str:
    return "" if answer.latency_us is None else f", in {answer.latency_us / 1000:.2f} ms"


def _score(answer: "LoggedAnswer") -> str:
    if answer.scores is not None:
        shown = (f"{s:.4f}" if s is not None else "missing" for s in answer.scores)
        return f" (scores {', '.join(shown)})"
    return "" if answer.score is None else f" (score {answer.score:.4f})"


def _version(console: "Console", version: "TracedVersion") -> None:
    from rich.table import Table

    from heliotrope.cli.explain import plain, show

    if version.explanation is not None:
        show(console, version.explanation)
    else:
        console.print(f"[bold]Version {plain(version.version)}[/]", highlight=False)
    console.print(f"\n[bold]Decisions on version {plain(version.version)}[/]", highlight=False)
    if not version.decisions:
        console.print("  none: it was not rolled out by a controller", style="dim")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for one in version.decisions:
        who = "" if one.actor == "controller" else f" ({one.actor})"
        grid.add_row(
            f"  #{one.sequence} {one.at:%m-%d %H:%M:%S}", one.kind.value, plain(one.reason + who)
        )
    console.print(grid)
