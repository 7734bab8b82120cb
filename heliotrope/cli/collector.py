"""`heliotrope collector`: takes spool batches and labels into the event tables."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from heliotrope.domain.labels import LabelContract
    from heliotrope.service.tokens import TokenRing


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("collector")(collector)


def collector(
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(8200, min=0, max=65535, help="Port; 0 takes a free one."),
    store: str = typer.Option("", help="Root of the tables; HELIOTROPE_STORE if left out."),
    spec: list[Path] = typer.Option(
        [], help="Spec file, or folder of them; labels of its model are taken and checked by it."
    ),
    token_file: Path | None = typer.Option(
        None, help="Lines `<token> [spools] [labels]`; made in the home folder if left out."
    ),
    commit_ms: int = typer.Option(
        250, min=1, max=60_000, help="Between two commits of a table, at least."
    ),
    waiting_mb: int = typer.Option(
        128, min=32, help="Requests held at once, in MiB; beyond it they are answered 429."
    ),
    upkeep_seconds: float = typer.Option(
        60.0, min=0, help="Between rounds of compaction; 0 leaves upkeep to others."
    ),
    vacuum_seconds: float = typer.Option(
        3600.0, min=1, help="Between rounds that also drop old days and vacuum."
    ),
    keep_days: int | None = typer.Option(None, min=1, help="Days of events kept; all if left out."),
    log_hours: int = typer.Option(
        6, min=1, help="How long a reader may hold a version of a new table."
    ),
) -> None:
    """Run a collector until it is stopped. Any number may write one store.

    What it answers with 200 is in the store. See docs/guarantees.md.
    """
    import os

    from heliotrope.adapters.collector_app import CollectorApp
    from heliotrope.adapters.collector_server import serve
    from heliotrope.adapters.delta_tables import TablePolicy
    from heliotrope.adapters.event_store import DeltaEventStore
    from heliotrope.adapters.event_upkeep import EventUpkeep, UpkeepPolicy
    from heliotrope.clock import clock_of
    from heliotrope.service.collector_lanes import CollectorLimits
    from heliotrope.telemetry.board import Board
    from heliotrope.telemetry.collector_metrics import COLLECTOR_METRICS

    root, ring = _place(store, token_file)
    events = DeltaEventStore(root, TablePolicy(log_hours=log_hours))
    counts, clock = Board(COLLECTOR_METRICS), clock_of(os.environ)
    policy = UpkeepPolicy(deep_seconds=vacuum_seconds, keep_days=keep_days)
    upkeep = EventUpkeep(events, root, policy, counts, clock.now)
    app = CollectorApp(
        events,
        _contracts(spec),
        ring,
        CollectorLimits(commit_seconds=commit_ms / 1000, waiting_bytes=waiting_mb << 20),
        counts,
        upkeep.run if upkeep_seconds else None,
        upkeep_seconds,
        lambda: clock.now_ns() // 1000,
    )
    serve(app, host, port, lambda url: typer.echo(f"Collector at {url}, store {root}."))


def _place(store: str, token_file: Path | None) -> tuple[str, "TokenRing"]:
    import os

    from heliotrope.service.tokens import TokenRing
    from heliotrope.settings import Settings
    from heliotrope.vocabulary import COLLECTOR_TOKEN_FILE, ENV_COLLECTOR_TOKEN

    settings = Settings.parse(os.environ, Path.cwd())
    root = store or settings.store
    given = os.environ.get(ENV_COLLECTOR_TOKEN)
    if token_file is None and given:
        return root, TokenRing.parse([given], ENV_COLLECTOR_TOKEN)
    file = token_file or made_token_file(settings.home / COLLECTOR_TOKEN_FILE)
    return root, TokenRing.parse(read_lines(file), str(file))


def made_token_file(path: Path) -> Path:
    """The token file, made with a random token where there is none; only its owner may read it."""
    import os
    import secrets

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            # Of two processes that make it at once, both use what the first has put there.
            path.hardlink_to(temporary)
        except FileExistsError:
            typer.echo(f"Using the token in {path}.", err=True)
        finally:
            temporary.unlink()
    return path


def read_lines(file: Path) -> list[str]:
    """Lines of a token file.

    Raises:
        UsageError: it cannot be read.
    """
    from heliotrope.errors import UsageError

    try:
        return file.read_text().splitlines()
    except OSError as error:
        raise UsageError(f"The token file must be readable. {error.strerror}: {file}.") from error


def _contracts(paths: list[Path]) -> "list[LabelContract]":
    from heliotrope.domain.labels import LabelContract
    from heliotrope.spec import load_spec, spec_files

    return [LabelContract.of_spec(load_spec(file)) for file in spec_files(paths)]
