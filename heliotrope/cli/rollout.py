"""`heliotrope rollout`: where a candidate is on its way, and a person's orders to it."""

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from heliotrope.domain.rollout.documents import Rollout
    from heliotrope.domain.rollout.orders import Order
    from heliotrope.service.rollout_keeping import Judgement

_JSON = typer.Option(False, "--json", help="As JSON.")
_MODEL = typer.Argument(..., help="The model's name.")
_WHY = typer.Option("", "--why", help="The reason, for the log.")
_BY = typer.Option(None, "--by", help="Your name, for the log; the login name when left out.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        name="rollout",
        help="Where a candidate is on its way to champion; pause, resume, abort, promote.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for command in (status, pause, resume, abort, promote):
        group.command(command.__name__)(command)
    app.add_typer(group)


def status(model: str = _MODEL, json_output: bool = _JSON) -> None:
    """Show state, evidence, and what it waits for: how many more labels, and until when."""
    from heliotrope.bootstrap import platform
    from heliotrope.errors import NotFoundError
    from heliotrope.service.rollout_keeping import RolloutBook

    book = RolloutBook(platform().state)
    kept = book.latest(model)
    if kept is None:
        raise NotFoundError(
            f"{model} must have a rollout. Got none: one begins when a controller sees a new "
            "candidate (`heliotrope train`, then `heliotrope up`)."
        )
    rollout, judged = kept.rollout, book.judgement(model)
    if judged is not None and judged.number != rollout.number:
        judged = None
    if json_output:
        _echo_json(rollout, judged)
    else:
        _show(rollout, judged)


def pause(
    model: str = _MODEL, why: str = _WHY, by: str | None = _BY, json_output: bool = _JSON
) -> None:
    """Stop the clock: shares stay as they are, and only a breach moves them."""
    from heliotrope.domain.rollout.orders import Order

    _order(model, Order.PAUSE, by, why, json_output)


def resume(
    model: str = _MODEL, why: str = _WHY, by: str | None = _BY, json_output: bool = _JSON
) -> None:
    """Go on from where it was paused; the step begins anew."""
    from heliotrope.domain.rollout.orders import Order

    _order(model, Order.RESUME, by, why, json_output)


def abort(
    model: str = _MODEL, why: str = _WHY, by: str | None = _BY, json_output: bool = _JSON
) -> None:
    """Take the candidate back; the champion gets all of the traffic."""
    from heliotrope.domain.rollout.orders import Order

    _order(model, Order.ABORT, by, why, json_output)


def promote(
    model: str = _MODEL, why: str = _WHY, by: str | None = _BY, json_output: bool = _JSON
) -> None:
    """Make it champion now, without the evidence; recorded as forced, by whom and why.

    The old champion stays warm for the bake time, and a breach sends the traffic back.
    """
    from heliotrope.domain.rollout.orders import Order

    _order(model, Order.PROMOTE, by, why, json_output)


def _order(model: str, order: "Order", by: str | None, why: str, json_output: bool) -> None:
    import getpass
    import os

    from heliotrope.bootstrap import platform
    from heliotrope.clock import clock_of

    person = by or getpass.getuser()
    here = platform()
    after = here.rollouts.order(model, order, person, why, clock_of(os.environ).now())
    if json_output:
        _echo_json(after, None)
    else:
        typer.echo(f"{model} rollout {after.number}: {_where(after)}. {after.reason}.")


def _where(rollout: "Rollout") -> str:
    share = f" at {rollout.share}%" if rollout.share and not rollout.over else ""
    paused = f" (from {rollout.paused_from})" if rollout.paused_from else ""
    return f"version {rollout.candidate} {rollout.state}{share}{paused}"


def _echo_json(rollout: "Rollout", judged: "Judgement | None") -> None:
    import json

    document: dict[str, Any] = {
        "rollout": rollout.model_dump(mode="json"),
        "judgement": judged.model_dump(mode="json") if judged else None,
    }
    typer.echo(json.dumps(document, indent=2))


def _show(rollout: "Rollout", judged: "Judgement | None") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from heliotrope.vocabulary import Verdict

    colours = {Verdict.PASS: "green", Verdict.HOLD: "yellow"}
    out = Console(highlight=False)
    against = f"against champion {rollout.champion}" if rollout.champion else "the first champion"
    title = f"{rollout.model} rollout {rollout.number}: {_where(rollout)}, {against}"
    out.print(Text(title, style="bold"), soft_wrap=True)
    out.print(f"since {rollout.entered_at:%Y-%m-%d %H:%M:%S} UTC: {rollout.reason}", markup=False)
    if rollout.forced_by:
        out.print(f"promoted by force by {rollout.forced_by}", markup=False)
    if judged is None:
        if not rollout.over:
            out.print("No controller has judged it yet; `heliotrope up` runs one.")
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in judged.checks:
        colour = colours.get(check.verdict, "red")
        note = "" if check.demanded else " (not waited for)"
        table.add_row(Text(check.verdict, colour), check.check, Text(check.text + note))
    out.print(table)
    if judged.waits is not None and not rollout.over:
        out.print(f"waits for {judged.waits.text}", markup=False)
        if judged.waits.until is not None:
            out.print(f"until about {judged.waits.until:%Y-%m-%d %H:%M} UTC", markup=False)
