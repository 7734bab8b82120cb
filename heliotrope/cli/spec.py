"""`heliotrope spec check` and `heliotrope spec schema`."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the `spec` group."""
    group = typer.Typer(help="Check a model's spec, or print its JSON schema.")
    group.command("check")(check)
    group.command("schema")(schema)
    app.add_typer(group, name="spec")


def check(
    files: list[Path] = typer.Argument(..., help="Spec files.", metavar="FILE..."),
    json_output: bool = typer.Option(False, "--json", help="Problems as JSON."),
) -> None:
    """Say everything that is wrong with a spec, at once; exit code 2 when something is."""
    import json

    from heliotrope.errors import SpecError
    from heliotrope.spec import load_spec

    wrong = []
    for file in files:
        try:
            spec = load_spec(file)
        except SpecError as error:
            wrong.append(error)
            if not json_output:
                typer.echo(str(error), err=True)
        else:
            if not json_output:
                typer.echo(f"{file}: fine ({spec.name}, {len(spec.features)} features)")
    if json_output:
        found = [
            {"file": e.source, "field": p.field, "must": p.must, "got": p.got}
            for e in wrong
            for p in e.problems
        ]
        typer.echo(json.dumps(found, indent=2))
    if wrong:
        raise typer.Exit(SpecError.exit_code)


def schema() -> None:
    """Print the JSON Schema of a spec, for editors (yaml-language-server and the like)."""
    import json

    from heliotrope.spec import spec_json_schema

    typer.echo(json.dumps(spec_json_schema(), indent=2))
