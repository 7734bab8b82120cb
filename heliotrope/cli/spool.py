"""`heliotrope spool`: see what a predictor wrote down."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from heliotrope.service.spool_reading import SpoolReader

POLL_SECONDS = 0.5

_Folder = Annotated[Path, typer.Argument(help="The spool's folder.", metavar="DIR")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, features included.")]
_Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as rows are added.")]
_After = Annotated[int, typer.Option(help="Only records above this sequence number.", min=0)]
_Limit = Annotated[int | None, typer.Option(help="Stop after this many rows.", min=1)]


def register(app: typer.Typer) -> None:
    """Add the `spool` command group to an application."""
    group = typer.Typer(help="See what a predictor wrote down.", no_args_is_help=True)
    group.command("cat")(cat)
    group.callback()(_group)
    app.add_typer(group, name="spool")


def _group() -> None:
    """See what a predictor wrote down."""


def cat(
    folder: _Folder,
    as_json: _Json = False,
    follow: _Follow = False,
    after: _After = 0,
    limit: _Limit = None,
) -> None:
    """Print the predictions in a spool, oldest first; safe while a predictor writes it."""
    import orjson

    from heliotrope.service.spool_reading import SpoolReader

    reader = SpoolReader(folder, after)
    for number, row in enumerate(_rows(reader, follow)):
        if limit is not None and number >= limit:
            break
        typer.echo(orjson.dumps(row).decode() if as_json else _line(row))
    if reader.damaged_bytes:
        typer.echo(f"{reader.damaged_bytes} damaged bytes were passed over.", err=True)


def _rows(reader: "SpoolReader", follow: bool) -> Iterator[dict[str, Any]]:
    while True:
        for entry in reader.poll():
            yield from entry.rows()
        if not follow:
            return
        time.sleep(POLL_SECONDS)


def _line(row: dict[str, Any]) -> str:
    score = row["score"]
    scores = [score] if isinstance(score, float) else score
    shown = ",".join(f"{value:.6g}" for value in scores)
    key = f" {row['entity_key']}" if row["entity_key"] is not None else ""
    return (
        f"{row['predicted_at']} {row['model']}/{row['version']} {row['role']} "
        f"{row['prediction_id']}{key} {row['prediction']} score={shown} {row['latency_ms']:.2f}ms"
    )
