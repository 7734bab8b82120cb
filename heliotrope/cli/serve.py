"""`heliotrope serve MODEL`: a KServe predictor of a registered version, on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from heliotrope.vocabulary import Role

if TYPE_CHECKING:
    from heliotrope.bootstrap import Platform


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    model: str = typer.Argument(..., help="The model's name."),
    version: str | None = typer.Option(None, help="A version's number."),
    alias: str | None = typer.Option(None, help="An alias; champion when neither is given."),
    http_port: int = typer.Option(8080, help="REST port; 0 takes a free one."),
    grpc_port: int = typer.Option(8081, help="gRPC port; 0 takes a free one."),
    spool: Path | None = typer.Option(None, help="Where answers are spooled (default: in home)."),
    role: str = typer.Option("", help="champion, canary or shadow; by its alias when left out."),
) -> None:
    """Answer requests over v1 REST, v2 REST and gRPC until stopped.

    The predictor is the one a cluster runs; this command only fetches the version and starts it.
    """
    import os
    import sys

    from heliotrope.adapters.embedded.free_port import free_port
    from heliotrope.bootstrap import CHECKOUT, platform

    if version is not None and alias is not None:
        raise typer.BadParameter("give a version or an alias, not both")
    if role not in ("", *Role):
        raise typer.BadParameter(f"the role must be one of {', '.join(Role)}. Got {role}.")
    here = platform()
    number, folder, played = _choose(here, model, version, alias, role)
    http, grpc = (port or free_port() for port in (http_port, grpc_port))
    where = spool or here.settings.home / "spool" / model
    # On standard error, so that a script may read it even with the output piped away.
    typer.echo(
        f"{model} version {number} ({played}) at http://127.0.0.1:{http} "
        f"and grpc 127.0.0.1:{grpc}, answers spooled in {where}",
        err=True,
    )
    arguments = {
        "model_name": model,
        "model_dir": folder,
        "model_version": number,
        "role": played,
        "http_port": http,
        "grpc_port": grpc,
        "spool_dir": where,
    }
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    # The predictor takes this process's place: its signals, its exit code.
    os.execve(sys.executable, [sys.executable, "-m", "predictors", *flags], environment)


def _choose(
    here: "Platform", model: str, version: str | None, alias: str | None, role: str
) -> tuple[str, Path, str]:
    """The version's number, its folder and its role."""
    from heliotrope.service.serving import cached_model, fetch_model, find_version
    from heliotrope.vocabulary import ALIAS_CHAMPION

    if version is not None and role:
        folder = cached_model(here.model_cache, model, version)
        if folder is not None:
            # Nothing is asked of the registry, so that a killed predictor is back at once.
            return version, folder, role
    found = find_version(here.registry, model, version, alias)
    folder = fetch_model(here.registry, found, here.model_cache)
    by_alias = Role.CHAMPION if ALIAS_CHAMPION in found.aliases else Role.CANARY
    return found.version, folder, role or by_alias
