"""`heliotrope init`: a first spec for data of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from heliotrope.spec import Source


def register(app: typer.Typer) -> None:
    """Add `init`."""
    app.command("init")(init)


def init(
    name: str = typer.Argument(..., help="Of the model: lower-case letters, digits and dashes."),
    source: str = typer.Option(
        ..., "--from", metavar="FILE", help="A CSV or Parquet file, or a Delta table; or s3://..."
    ),
    label: str | None = typer.Option(None, help="Column to predict; guessed when left out."),
    positive: str | None = typer.Option(None, help="The label's positive value."),
    key: str | None = typer.Option(None, help="Column that identifies a row."),
    time: str | None = typer.Option(None, help="Column with the time a row happened."),
    delimiter: str = typer.Option(",", help="Of a CSV file."),
    output: Annotated[
        Path | None, typer.Option(help="Folder for model.yaml; ./NAME when left out.")
    ] = None,
    force: bool = typer.Option(False, "--force", help="Overwrite a model.yaml that is there."),
) -> None:
    """Write NAME/model.yaml from a data file: types, bounds, categories. Edit, then train."""
    from heliotrope.adapters.source_reader import DuckDBSourceReader
    from heliotrope.errors import UsageError
    from heliotrope.service.scaffold import infer_spec
    from heliotrope.service.scaffold_label import Hints

    target = (output or Path(name)) / "model.yaml"
    if target.exists() and not force:
        raise UsageError(f"{target} must not be there yet; --force overwrites it.")
    given = source_block(source, delimiter)
    with DuckDBSourceReader().open(parse_source(given)) as table:
        scaffold = infer_spec(
            table, name, _seen_from(given, target.parent), Hints(label, positive, key, time)
        )
    write_whole(target, scaffold.text)
    for note in scaffold.notes:
        typer.echo(note)
    for column, reason in scaffold.left_out.items():
        typer.echo(f"Left out {column}: {reason}.")
    typer.echo(f"Wrote {target} with {scaffold.features} features.")
    typer.echo(f"Read it, correct it, then: heliotrope train {target}")


def source_block(path: str, delimiter: str) -> dict[str, str]:
    """The spec's source block of a path and a delimiter."""
    return {"path": path, **({"delimiter": delimiter} if delimiter != "," else {})}


def parse_source(block: dict[str, str]) -> "Source":
    """A source; UsageError says what is wrong with it."""
    from pydantic import ValidationError

    from heliotrope.errors import UsageError
    from heliotrope.spec import Source

    path = Path(block["path"])
    is_delta = path.is_dir() and (path / "_delta_log").is_dir()
    try:
        source = Source.model_validate(block | ({"format": "delta"} if is_delta else {}))
    except ValidationError as error:
        reasons = "; ".join(_reason(detail["msg"]) for detail in error.errors())
        raise UsageError(f"--from or --delimiter: {reasons}.") from None
    if source.remote:
        return source
    return source.model_copy(update={"path": str(path.resolve())})


def _reason(message: str) -> str:
    parts = message.removeprefix("Value error, ").split("|")
    return f"must {parts[1]}; got {parts[2]}" if len(parts) == 3 else message


def _seen_from(block: dict[str, str], folder: Path) -> dict[str, str]:
    import os

    source = parse_source(block)
    path = source.path
    if not source.remote:
        path = Path(os.path.relpath(path, folder.resolve())).as_posix()
    kind = {"format": str(source.format)} if source.format is not None else {}
    return {**block, "path": path, **kind}


def write_whole(target: Path, text: str) -> None:
    """Write a text file whole or not at all; UsageError when the folder cannot be written to."""
    import os
    import tempfile

    from heliotrope.errors import UsageError

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=target.parent, prefix=".model-", suffix=".yaml")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(part).chmod(0o644)
            Path(part).replace(target)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{target} must be writable. Got {error.strerror or error}.") from error
