"""`heliotrope ui`: MLflow's own pages over this machine's runs and models."""

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ui")(ui)


def ui(
    port: int = typer.Option(0, min=0, max=65535, help="0 takes a free one."),
    host: str = typer.Option("127.0.0.1", help="Address to listen on."),
) -> None:
    """Open MLflow's pages: prints the address, runs until Ctrl-C."""
    from heliotrope.bootstrap import platform

    here = platform()
    uri = here.settings.tracking_uri
    if uri.startswith(("http://", "https://")):
        from heliotrope.adapters.mlflow_link import mask

        typer.echo(f"MLflow runs elsewhere: {mask(uri)}")
        return
    here.registry.models()
    from heliotrope.adapters.mlflow_server import MlflowServer

    with MlflowServer(uri, host=host, port=port) as server:
        typer.echo(f"MLflow UI: {server.url}   (Ctrl-C ends it)")
        server.wait()
