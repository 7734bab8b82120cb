"""`heliotrope state`: the tables that a release needs, made or brought up to date."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from heliotrope.ports.state import SchemaStatus


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="The tables of the controller's state and of MLflow.")
    group.command("migrate")(migrate)
    group.command("status")(status)
    app.add_typer(group, name="state", no_args_is_help=True)


def migrate(
    json_output: bool = typer.Option(False, "--json", help="What was done, as JSON."),
) -> None:
    """Bring the databases to this release's tables; safe when several start at once.

    The controller's is HELIOTROPE_STATE. MLflow's is MLFLOW_BACKEND_STORE_URI, or
    MLFLOW_TRACKING_URI where that is a database; a tracking server migrates its own.
    """
    import json

    from heliotrope.bootstrap import platform

    done = []
    for schema in platform().schemas:
        before = schema.migrate()
        done.append(before)
        if not json_output:
            typer.echo(_migrated(before))
    if json_output:
        typer.echo(json.dumps([_document(one) for one in done], indent=2))


def status(
    json_output: bool = typer.Option(False, "--json", help="As JSON."),
) -> None:
    """Say which tables the databases have; exit code 1 where one must be migrated."""
    import json

    from heliotrope.bootstrap import platform

    found = [schema.status() for schema in platform().schemas]
    if json_output:
        typer.echo(json.dumps([_document(one) for one in found], indent=2))
    else:
        for one in found:
            typer.echo(_stands(one))
    if not all(one.current for one in found):
        raise typer.Exit(1)


def _migrated(before: "SchemaStatus") -> str:
    where = f"{before.name} ({before.database})"
    if before.current:
        return f"{where}: at {before.wanted} already; nothing was done."
    return f"{where}: from {before.revision or 'empty'} to {before.wanted}."


def _stands(one: "SchemaStatus") -> str:
    where = f"{one.name} ({one.database})"
    if one.current:
        return f"{where}: at {one.wanted}, as this release expects."
    return (
        f"{where}: must be at {one.wanted}. Got {one.revision or 'an empty database'}; "
        "`heliotrope state migrate` mends it where it is older."
    )


def _document(one: "SchemaStatus") -> dict[str, object]:
    return {
        "name": one.name,
        "database": one.database,
        "revision": one.revision,
        "wanted": one.wanted,
        "current": one.current,
    }
