"""`heliotrope serve MODEL`: a KServe predictor of a registered version, on this machine."""

from pathlib import Path

import typer


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
) -> None:
    """Answer requests over v1 REST, v2 REST and gRPC until stopped.

    The predictor is the one a cluster runs; this command only fetches the version and starts it.
    """
    import os
    import sys

    from heliotrope.adapters.embedded.free_port import free_port
    from heliotrope.bootstrap import CHECKOUT, platform
    from heliotrope.service.serving import fetch_model, find_version
    from heliotrope.vocabulary import ALIAS_CHAMPION, Role

    if version is not None and alias is not None:
        raise typer.BadParameter("give a version or an alias, not both")
    here = platform()
    found = find_version(here.registry, model, version, alias)
    folder = fetch_model(here.registry, found, here.settings.home / "served")
    http, grpc = (port or free_port() for port in (http_port, grpc_port))
    role = Role.CHAMPION if ALIAS_CHAMPION in found.aliases else Role.CANARY
    where = spool or here.settings.home / "spool" / model
    # On standard error, so that a script may read it even with the output piped away.
    typer.echo(
        f"{model} version {found.version} ({role}) at http://127.0.0.1:{http} "
        f"and grpc 127.0.0.1:{grpc}, answers spooled in {where}",
        err=True,
    )
    arguments = {
        "model_name": model,
        "model_dir": folder,
        "model_version": found.version,
        "role": role,
        "http_port": http,
        "grpc_port": grpc,
        "spool_dir": where,
    }
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    # The predictor takes this process's place: its signals, its exit code.
    os.execve(sys.executable, [sys.executable, "-m", "predictors", *flags], environment)
