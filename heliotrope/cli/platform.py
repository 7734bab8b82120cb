"""`heliotrope status`, `logs` and `down`: the platform that `heliotrope up` runs."""

from pathlib import Path
from typing import IO

import typer

NOT_UP = 3
NOT_READY = 1


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("down")(down)


def _home() -> Path:
    import os

    from heliotrope.settings import Settings

    return Settings.parse(os.environ, Path.cwd()).home


def status(
    json_output: bool = typer.Option(False, "--json", help="As JSON, for scripts."),
) -> None:
    """Say what runs, and where. Ends with 0 if all is ready, 1 if not all is, 3 if it is down."""
    import json

    from heliotrope.adapters.embedded.supervisor.state import running_supervisor
    from heliotrope.cli.platform_view import show

    state = running_supervisor(_home())
    if state is None:
        text = f"The platform of {_home()} is down. Start it: heliotrope up SPEC"
        typer.echo(json.dumps({"up": False}) if json_output else text)
        raise typer.Exit(NOT_UP)
    if json_output:
        typer.echo(json.dumps({"up": True, **state.model_dump(mode="json")}, indent=2))
    else:
        show(state)
    if not state.ready:
        raise typer.Exit(NOT_READY)


def logs(
    name: str | None = typer.Argument(None, help="A process, as status calls it; all if left out."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on until Ctrl-C."),
    lines: int = typer.Option(20, "--lines", "-n", min=0, help="Of each, at first."),
) -> None:
    """Print what the platform's processes wrote."""
    from heliotrope.adapters.embedded.supervisor.launch import log_folder
    from heliotrope.errors import NotFoundError

    folder = log_folder(_home())
    found = sorted(folder.glob("*.log"))
    wanted = f"{name.replace('/', '.')}.log" if name is not None else None
    chosen = [path for path in found if wanted in (None, path.name)]
    if not chosen:
        known = ", ".join(path.stem for path in found) or "none yet"
        raise NotFoundError(f"There must be a log of {name or 'a process'}. Logs: {known}.")
    width = max(len(path.stem) for path in chosen)
    shown = [(_Tail(path), f"{path.stem:{width}} | " if name is None else "") for path in chosen]
    for tail, prefix in shown:
        _print(tail.last(lines), prefix)
    if follow:
        _follow(shown)


class _Tail:
    """Reads what is added to a file, also after it was emptied."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def last(self, count: int) -> list[str]:
        found = self.more()
        return found[-count:] if count else []

    def more(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                return self._read(file)
        except OSError:
            return []

    def _read(self, file: IO[bytes]) -> list[str]:
        size = self._path.stat().st_size
        if size < self._at:
            self._at = 0
        file.seek(self._at)
        data = file.read()
        whole = data.rfind(b"\n") + 1
        self._at += whole
        return data[:whole].decode(errors="replace").splitlines()


def _print(lines: list[str], prefix: str) -> None:
    for line in lines:
        typer.echo(prefix + line)


def _follow(shown: list[tuple[_Tail, str]]) -> None:
    import time

    while True:
        for tail, prefix in shown:
            _print(tail.more(), prefix)
        time.sleep(0.2)


def down() -> None:
    """Stop the platform: open requests are answered, spools shipped; safe to call twice."""
    from heliotrope.adapters.embedded.supervisor.launch import stop_platform

    ran = stop_platform(_home())
    typer.echo("The platform is down." if ran else "The platform was not up.")
