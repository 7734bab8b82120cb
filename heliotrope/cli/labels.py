"""`heliotrope labels send` and `heliotrope labels status`."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from heliotrope.adapters.collector_client import CollectorClient

DEFAULT_URL = "http://127.0.0.1:8200"


def register(app: typer.Typer) -> None:
    """Add the `labels` group."""
    group = typer.Typer(help="Send the truth about predictions, or see what has arrived.")
    group.command("send")(send)
    group.command("status")(status)
    app.add_typer(group, name="labels")


def send(
    file: Path = typer.Argument(
        ..., metavar="FILE", help="Labels: .csv, .ndjson (.jsonl) or .json; - reads CSV from stdin."
    ),
    model: str = typer.Option("", help="Of all rows that do not name one themselves."),
    collector: str = typer.Option(
        "",
        help="Its address; else HELIOTROPE_COLLECTOR_URL, the running platform's, or "
        f"{DEFAULT_URL}.",
    ),
    token_file: Path | None = typer.Option(
        None, help="Holds the token; else HELIOTROPE_COLLECTOR_TOKEN, or the home folder's file."
    ),
    json_output: bool = typer.Option(False, "--json", help="The outcome as JSON."),
) -> None:
    """Send a file of labels; running it again sends nothing twice.

    Each row holds prediction_id (an answer's id and the row's place, such as ID/0) or entity_key,
    label, and may hold happened_at (ISO 8601 with a zone) and model. Rows that are refused are
    named with their reason; the others are taken.

    Exit codes: 0 every row was taken; 2 some were refused; 6 the collector does not answer.
    """
    import json

    from heliotrope.errors import UsageError
    from heliotrope.service.label_sending import send_labels

    kind = _kind_of(file)
    show = (lambda _: None) if json_output else typer.echo
    with _opened(file) as source, closing(_client(collector, token_file)) as client:
        sent = send_labels(source, kind, model or None, client, show)
    if json_output:
        typer.echo(json.dumps(sent.__dict__, indent=2))
    else:
        again = f", {sent.duplicates:,} of them were there before" if sent.duplicates else ""
        typer.echo(f"{sent.accepted:,} labels taken{again}; {sent.refused:,} refused.")
    if sent.refused:
        raise typer.Exit(UsageError.exit_code)


def status(
    model: str = typer.Argument("", help="All models if left out.", metavar="[MODEL]"),
    store: str = typer.Option("", help="Root of the tables; HELIOTROPE_STORE if left out."),
    json_output: bool = typer.Option(False, "--json", help="As JSON."),
) -> None:
    """Say how many predictions have their label, and which labels found none."""
    import json
    import os

    from heliotrope.adapters.event_status import label_status
    from heliotrope.adapters.event_store import DeltaEventStore
    from heliotrope.errors import NotFoundError
    from heliotrope.settings import Settings

    root = store or Settings.parse(os.environ, Path.cwd()).store
    events = DeltaEventStore(root)
    known = events.models()
    if model and model not in known:
        there = ", ".join(known) or "none yet"
        raise NotFoundError(f"The model must have events in {root}: {there}. Got {model}.")
    found = [label_status(events, name) for name in ([model] if model else known)]
    if json_output:
        typer.echo(json.dumps([one.as_dict() for one in found], indent=2))
        return
    if not found:
        typer.echo(f"No events in {root} yet.")
    for one in found:
        typer.echo(one.text())


def _opened(file: Path) -> "typer.FileBinaryRead":
    import sys

    from heliotrope.errors import UsageError

    if str(file) == "-":
        return sys.stdin.buffer  # type: ignore[return-value]
    try:
        return file.open("rb")  # type: ignore[return-value]
    except OSError as error:
        raise UsageError(f"The labels must be a readable file. {error.strerror}: {file}.") from None


def _kind_of(file: Path) -> str:
    from heliotrope.domain.label_formats import UploadFormat
    from heliotrope.errors import UsageError

    if str(file) == "-":
        return UploadFormat.CSV
    kinds = {
        ".csv": UploadFormat.CSV,
        ".json": UploadFormat.JSON,
        ".ndjson": UploadFormat.NDJSON,
        ".jsonl": UploadFormat.NDJSON,
    }
    kind = kinds.get(file.suffix.lower())
    if kind is None:
        raise UsageError(f"The labels must be a {', '.join(kinds)} file. Got {file.name}.")
    return kind


def _client(url: str, token_file: Path | None) -> "CollectorClient":
    from heliotrope.adapters.collector_client import CollectorClient

    return CollectorClient(collector_address(url), token_of(token_file))


def collector_address(url: str) -> str:
    """Of a collector: what is given, the environment's, the running platform's, the usual port."""
    import os

    from heliotrope.adapters.embedded.supervisor.state import running_supervisor
    from heliotrope.settings import Settings
    from heliotrope.vocabulary import ENV_COLLECTOR_URL

    given = url or os.environ.get(ENV_COLLECTOR_URL)
    if given:
        return given
    state = running_supervisor(Settings.parse(os.environ, Path.cwd()).home)
    return (state.urls.get("collector") if state else None) or DEFAULT_URL


def token_of(token_file: Path | None) -> str:
    """The collector's token: of the file, the environment, or the home folder's file.

    Raises:
        UsageError: there is none.
    """
    import os

    from heliotrope.cli.collector import read_lines
    from heliotrope.errors import UsageError
    from heliotrope.settings import Settings
    from heliotrope.vocabulary import COLLECTOR_TOKEN_FILE, ENV_COLLECTOR_TOKEN

    token = os.environ.get(ENV_COLLECTOR_TOKEN, "")
    if token_file is not None or not token:
        home = Settings.parse(os.environ, Path.cwd()).home
        words = " ".join(read_lines(token_file or home / COLLECTOR_TOKEN_FILE)).split()
        if not words:
            raise UsageError("The token file must hold a token. It is empty.")
        token = words[0]
    return token
