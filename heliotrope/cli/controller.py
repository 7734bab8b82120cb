"""`heliotrope controller`: joins predictions and labels, judges, decides; one acts at a time."""

from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from heliotrope.service.tokens import TokenRing
    from heliotrope.settings import Settings
    from heliotrope.spec import ModelSpec


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("controller")(controller)


def controller(
    spec: list[Path] = typer.Option(
        [],
        help="Spec file, or folder of them; a model each. On a cluster, deployed ones join them.",
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
    port: int = typer.Option(8300, min=0, max=65535, help="Port; 0 takes a free one."),
    tick_seconds: float = typer.Option(
        1.0, min=0.05, max=3600, help="Between the starts of two ticks."
    ),
    token_file: Path | None = typer.Option(
        None, help="Lines `<token> [alerts] [orders]`; made in the home folder if left out."
    ),
    standby: bool = typer.Option(
        False, "--standby", help="Wait where another controller acts, and take over when it ends."
    ),
) -> None:
    """Run the controller until it is stopped: truth, alarms, rollouts, the live page.

    One acts on a home folder, or a cluster's namespace, at a time. It may be killed at any point,
    and goes on from there. On a cluster it ends when a model is deployed or destroyed, so that it
    is started again with it.
    """
    import os

    from heliotrope.bootstrap import platform
    from heliotrope.clock import clock_of
    from heliotrope.controller_parts import open_controller
    from heliotrope.errors import ConflictError
    from heliotrope.vocabulary import Place

    here = platform("controller")
    deployed, cluster = here.deployed_specs(), here.settings.place is Place.CLUSTER
    found, ring = _specs(spec, deployed, required=not cluster), _ring(here.settings, token_file)
    specs = [one for one, _ in found]
    folders = {one.name: file.resolve().parent for one, file in found if file is not None}
    lock = here.lock
    if not standby and not lock.take():
        raise ConflictError(
            f"One controller must act on {here.shown}. {lock.holder()} does; "
            "--standby waits for its end."
        )
    watched = watching(here.deployed_specs, deployed) if cluster else nullcontext()
    clock = clock_of(os.environ)
    with watched, open_controller(here, specs, clock, lock, ring, tick_seconds, folders) as app:
        from heliotrope.adapters.collector_server import serve

        models = ", ".join(one.name for one in specs) or "no model yet"
        serve(
            app, host, port, lambda url: typer.echo(f"Controller at {url}, keeps {models}."),
            "controller",
        )  # fmt: skip


def _ring(settings: "Settings", token_file: Path | None) -> "TokenRing":
    import os

    from heliotrope.cli.collector import made_token_file, read_lines
    from heliotrope.service.tokens import TokenRing
    from heliotrope.vocabulary import CONTROLLER_TOKEN_FILE, ENV_CONTROLLER_TOKEN

    given = os.environ.get(ENV_CONTROLLER_TOKEN)
    if token_file is None and given:
        return TokenRing.parse([given], ENV_CONTROLLER_TOKEN)
    file = token_file or made_token_file(settings.home / CONTROLLER_TOKEN_FILE)
    return TokenRing.parse(read_lines(file), str(file))


def _specs(
    paths: list[Path], deployed: "Mapping[str, str]", *, required: bool
) -> "list[tuple[ModelSpec, Path | None]]":
    """Of files, then deployed ones; a file's own goes before a deployed one of its name."""
    from heliotrope.errors import UsageError
    from heliotrope.spec import load_spec, parse_spec, spec_files

    specs: list[tuple[ModelSpec, Path | None]] = [
        (load_spec(file), file) for file in (spec_files(paths) if paths else [])
    ]
    names = [one.name for one, _ in specs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"--spec must name each model once. Got {', '.join(twice)} twice.")
    for model, text in deployed.items():
        if model not in names:
            specs.append((parse_spec(text, f"the deployed spec of {model}"), None))
    if required and not specs:
        raise UsageError("--spec must name each model once. Got none.")
    return specs


@contextmanager
def watching(
    ask: "Callable[[], Mapping[str, str]]", known: "Mapping[str, str]"
) -> "Iterator[None]":
    """End this process, as the kubelet does, when what was deployed is not what is known."""
    import logging
    import os
    import signal
    import threading

    from heliotrope.adapters.cluster.deploy_objects import LOOK_SECONDS
    from heliotrope.errors import HeliotropeError

    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            try:
                changed = ask() != known
            except HeliotropeError:
                continue  # the lock and the duties say so
            if changed:
                logging.getLogger("heliotrope.controller").warning(
                    "Models were deployed or destroyed: ending, to be started again with them."
                )
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=look, name="specs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
