"""`heliotrope controller`: joins predictions and labels, judges, decides; one acts at a time."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from heliotrope.service.tokens import TokenRing
    from heliotrope.settings import Settings
    from heliotrope.spec import ModelSpec


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("controller")(controller)


def controller(
    spec: list[Path] = typer.Option(..., help="Spec file, or folder of them; a model each."),
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

    One acts on a home folder at a time. It may be killed at any point, and goes on from there.
    """
    import os

    from heliotrope.bootstrap import platform
    from heliotrope.clock import clock_of
    from heliotrope.controller_parts import lock_of, open_controller
    from heliotrope.errors import ConflictError

    here = platform()
    found, ring = _specs(spec), _ring(here.settings, token_file)
    specs = [one for one, _ in found]
    folders = {one.name: file.resolve().parent for one, file in found}
    lock = lock_of(here)
    if not standby and not lock.take():
        raise ConflictError(
            f"One controller must act on {here.settings.home}. {lock.holder()} does; "
            "--standby waits for its end."
        )
    with open_controller(
        here, specs, clock_of(os.environ), lock, ring, tick_seconds, folders
    ) as app:
        from heliotrope.adapters.collector_server import serve

        models = ", ".join(one.name for one in specs)
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


def _specs(paths: list[Path]) -> "list[tuple[ModelSpec, Path]]":
    from heliotrope.errors import UsageError
    from heliotrope.spec import load_spec, spec_files

    specs = [(load_spec(file), file) for file in spec_files(paths)]
    names = [one.name for one, _ in specs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not specs or twice:
        got = f"{', '.join(twice)} twice" if twice else "none"
        raise UsageError(f"--spec must name each model once. Got {got}.")
    return specs
