"""`heliotrope predict MODEL ROWS`: score a file as the predictor would, without a server."""

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predict")(predict)


def predict(
    model: str = typer.Argument(..., help="The model's name."),
    rows: Path = typer.Argument(..., help="CSV or NDJSON (.jsonl) with a row a line; - is stdin."),
    version: str | None = typer.Option(None, help="A version's number."),
    alias: str | None = typer.Option(None, help="An alias; champion when neither is given."),
    json_output: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Score rows with a registered version, through the same checks and the same ONNX file that
    are served. Columns that are no feature are left out. A row that the predictor would refuse
    ends the command with exit code 2, naming the row, before anything is printed.
    """
    import sys

    from heliotrope.bootstrap import platform
    from heliotrope.service.scoring import read_rows, score_rows, write_answers
    from heliotrope.service.serving import fetch_model, find_version, read_contract
    from heliotrope.vocabulary import ONNX_FILE

    here = platform()
    found = find_version(here.registry, model, version, alias)
    folder = fetch_model(here.registry, found, here.settings.home / "served")
    contract = read_contract(folder)
    if str(rows) == "-":
        table = read_rows(sys.stdin, "stdin", contract)
    else:
        try:
            with rows.open(encoding="utf-8-sig", newline="") as lines:
                table = read_rows(lines, str(rows), contract)
        except FileNotFoundError:
            raise typer.BadParameter(f"{rows} must exist") from None
    answers = score_rows(contract, here.load_scorer(folder / ONNX_FILE), table)
    write_answers(sys.stdout, answers, as_json=json_output)
