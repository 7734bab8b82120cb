"""`heliotrope up SPEC...`: the whole platform on this machine."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from heliotrope.adapters.embedded.supervisor.children import UpOptions
    from heliotrope.settings import Settings

_DATE_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up")(up)


def up(
    specs: list[Path] = typer.Argument(..., help="Spec files of the models to keep right."),
    detach: bool = typer.Option(
        False, "--detach", "-d", help="Go to the background; answers when everything is ready."
    ),
    port: int = typer.Option(
        0, min=0, max=65535, help="Of the gateway; 0 takes the last one, or a free one."
    ),
    without: list[str] = typer.Option(
        [], help="Leave out collector, controller, mlflow, prometheus or alertmanager."
    ),
    speed: float | None = typer.Option(
        None, help="Simulated seconds a second; the machine's clock if never given."
    ),
    start: datetime | None = typer.Option(
        None, formats=_DATE_FORMATS, help="When simulated time begins, UTC."
    ),
    wait: float = typer.Option(120.0, min=1, help="Seconds that --detach waits for all."),
) -> None:
    """Run predictors, gateway, collector, controller, MLflow, Prometheus and Alertmanager.

    Where it is up already, it says where and ends with 0. What an earlier `up` of this home served
    is served on; name its spec as well, so that the controller keeps it right.
    """
    import os

    from heliotrope.cli.platform_view import show
    from heliotrope.settings import Settings

    settings = Settings.parse(os.environ, Path.cwd())
    options = _options(settings, specs, port, without)
    if _is_up(settings, options):
        return
    _check_port(port)
    time_of = (speed, start.replace(tzinfo=UTC) if start else None)
    if not detach:
        _run(settings, options, specs, time_of)
        return
    from heliotrope.adapters.embedded.supervisor.launch import start_in_background

    state, why = start_in_background(settings.home, _words(specs, port, without, time_of), wait)
    if state is None:
        raise _not_started(why)
    show(state)
    if not state.ready:
        waiting = ", ".join(one.name for one in state.children if one.state != "ready")
        typer.echo(
            f"Not all is ready after {wait:g} s: {waiting or 'the traffic split'}.", err=True
        )
        raise typer.Exit(1)


def _options(settings: "Settings", specs: list[Path], port: int, without: list[str]) -> "UpOptions":
    from importlib.util import find_spec

    from heliotrope.adapters.embedded.supervisor.children import OPTIONAL, UpOptions
    from heliotrope.bootstrap import CHECKOUT
    from heliotrope.cli.collector import made_token_file
    from heliotrope.errors import UsageError
    from heliotrope.spec import load_spec
    from heliotrope.telemetry.files import RULE_FILES
    from heliotrope.vocabulary import COLLECTOR_TOKEN_FILE, CONTROLLER_TOKEN_FILE

    models = tuple(load_spec(path).name for path in specs)
    if len(set(models)) != len(models):
        raise UsageError(f"Each spec must be of another model. Got {', '.join(models)}.")
    unknown = [name for name in without if name not in OPTIONAL]
    if unknown:
        must = f"--without must be one of {', '.join(OPTIONAL)}."
        raise UsageError(f"{must} Got {', '.join(unknown)}.")
    if find_spec("envoy") is None:
        raise UsageError(
            "The gateway must be installed: pip install 'heliotrope[platform]'. It is not."
        )
    return UpOptions(
        specs=tuple(path.resolve() for path in specs),
        models=models,
        collector_token_file=made_token_file(settings.home / COLLECTOR_TOKEN_FILE),
        controller_token_file=made_token_file(settings.home / CONTROLLER_TOKEN_FILE),
        rules=tuple(CHECKOUT / "dashboards" / "prometheus" / name for name in RULE_FILES),
        port=port,
        without=frozenset(without),
    )


def _is_up(settings: "Settings", options: "UpOptions") -> bool:
    from heliotrope.adapters.embedded.supervisor.state import running_supervisor
    from heliotrope.cli.platform_view import show
    from heliotrope.errors import ConflictError

    state = running_supervisor(settings.home)
    if state is None or state.stopping:
        return False
    if set(state.specs) != {str(path) for path in options.specs}:
        raise ConflictError(
            f"The platform must be down to run other specs; `heliotrope down` first. "
            f"It is up with {', '.join(state.specs)}."
        )
    typer.echo(f"The platform is up already (process {state.pid}).")
    show(state)
    return True


def _check_port(port: int) -> None:
    from heliotrope.adapters.embedded.supervisor.ports import can_listen
    from heliotrope.errors import UsageError

    if port and not can_listen(port):
        raise UsageError(f"--port must be one nobody listens on. Got {port}, which is taken.")


def _run(
    settings: "Settings",
    options: "UpOptions",
    specs: list[Path],
    time_of: tuple[float | None, datetime | None],
) -> None:
    from heliotrope.adapters.embedded.supervisor.launch import run_platform
    from heliotrope.bootstrap import platform
    from heliotrope.cli.platform_view import watching
    from heliotrope.service.serving import find_version

    here = platform()

    def champion(model: str) -> str:
        return find_version(here.registry, model, None, None).version

    commands = {
        model: f"heliotrope train {path}" for model, path in zip(options.models, specs, strict=True)
    }
    with watching() as tell:
        ran = run_platform(settings, options, champion, commands, time_of, tell)
    typer.echo(
        "The platform is down."
        if ran
        else "Another `heliotrope up` was first; see `heliotrope status`."
    )


def _words(
    specs: list[Path],
    port: int,
    without: list[str],
    time_of: tuple[float | None, datetime | None],
) -> list[str]:
    speed, start = time_of
    words = [str(path) for path in specs]
    words += ["--port", str(port)] if port else []
    words += [word for name in without for word in ("--without", name)]
    words += ["--speed", str(speed)] if speed is not None else []
    words += ["--start", start.strftime(_DATE_FORMATS[1])] if start else []
    return words


def _not_started(why: str) -> Exception:
    from heliotrope.errors import HeliotropeError

    return HeliotropeError(f"The platform must start. It did not: {why}")
