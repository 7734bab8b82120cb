"""`heliotrope explain MODEL [VERSION]`, or `--prediction ID`: all that is known of one."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from heliotrope.domain.gate import GateReport
    from heliotrope.domain.lineage import CodeIdentity, Lineage
    from heliotrope.domain.training import TrainingRecord
    from heliotrope.service.lineage import Explanation

_MOST_IMPORTANT = 8
_COLOUR = {"PASS": "green", "HOLD": "yellow", "FAIL": "red", "ERROR": "red"}
_MARK = {"PASS": "✓", "HOLD": "…", "FAIL": "✗", "ERROR": "!"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    model: str | None = typer.Argument(
        None, help="The model's name; may be left out with --prediction."
    ),
    version: str | None = typer.Argument(
        None, help="A version's number or an alias; the champion when left out."
    ),
    prediction: str | None = typer.Option(
        None, "--prediction", help="Id of a logged prediction, or of a request, to walk back from."
    ),
    json_output: bool = typer.Option(False, "--json", help="Everything, as JSON."),
) -> None:
    """Say where a version comes from and why it was let in.

    With --prediction: what was answered on what features, the label that came, and behind it the
    version, its data, code and gate report, and every decision on its rollout.
    """
    from rich.console import Console

    from heliotrope.bootstrap import platform
    from heliotrope.errors import UsageError
    from heliotrope.service import lineage

    if prediction is not None:
        if version is not None:
            raise UsageError(f"--prediction finds the version itself. Got version {version!r}.")
        from heliotrope.cli.explain_prediction import explain_prediction

        explain_prediction(prediction, model, json_output)
        return
    if model is None:
        raise UsageError("A model's name, or --prediction ID, must be given. Got neither.")
    explanation = lineage.explain(platform().registry, model, version)
    if json_output:
        typer.echo(explanation.to_json(), nl=False)
    else:
        show(Console(), explanation)


def show(console: "Console", explanation: "Explanation") -> None:
    """Print an explanation, section by section."""
    from heliotrope.cli.run_view import metrics_table

    facts, lineage = explanation.facts, explanation.lineage
    aliases = f"  [green]{', '.join(facts.aliases)}[/]" if facts.aliases else "  [dim]no alias[/]"
    console.print(f"[bold]{facts.model} version {facts.version}[/]{aliases}", highlight=False)
    section(console, "Why", _why(explanation))
    if lineage is not None:
        section(console, "Data", _data(lineage, explanation))
        section(console, "Code", _code(lineage.code))
        section(console, "Estimator", _estimator(lineage, explanation.training))
    if explanation.evaluation is not None:
        console.print()
        console.print(metrics_table(explanation.evaluation))
        _comparisons(console, explanation)
    if explanation.gate is not None:
        _gate(console, explanation.gate)
    section(console, "Files", _files(explanation))
    for missing in explanation.missing:
        console.print(f"[yellow]Not there:[/] {plain(missing)}", highlight=False)


def _why(explanation: "Explanation") -> dict[str, str]:
    from heliotrope import vocabulary as names

    facts, lineage = explanation.facts, explanation.lineage
    tags = facts.tags
    against = tags.get(names.TAG_COMPARED_WITH, "nothing")
    rows = {
        "cause": tags.get(names.TAG_CAUSE, "unknown"),
        "run": tags.get(names.TAG_RUN_KEY, "unknown"),
        "trained": f"{lineage.trained_at:%Y-%m-%d %H:%M:%S %Z}" if lineage else "unknown",
        "registered": f"{facts.created_at:%Y-%m-%d %H:%M:%S %Z}",
        "compared with": f"version {against}" if against.isdecimal() else against,
    }
    first, note = tags.get(names.TAG_FIRST_ALIAS), tags.get(names.TAG_ALIAS_NOTE)
    if first:
        rows["registered as"] = f"{first}: {note}" if note else first
    return rows


def _data(lineage: "Lineage", explanation: "Explanation") -> dict[str, str]:
    snapshot, quality = lineage.snapshot, explanation.quality
    rows = {
        "snapshot": f"version {snapshot.version} of {snapshot.table}",
        "content": f"sha256 {snapshot.content_hash}",
        "source": snapshot.source,
        "rows": f"{snapshot.rows:,} mature; left out {snapshot.immature_rows:,} with an immature "
        f"label, {snapshot.unlabelled_rows:,} without one",
        "taken": f"{snapshot.taken_at:%Y-%m-%d %H:%M:%S %Z}",
    }
    if snapshot.event_from and snapshot.event_to:
        rows["events"] = f"{snapshot.event_from:%Y-%m-%d} to {snapshot.event_to:%Y-%m-%d}"
    if quality is not None:
        count = len(quality.warnings)
        rows["quality"] = f"{quality.usable_rows:,} usable rows, {count} warning(s)"
        rows |= {f"  {f.check}": f.message for f in quality.warnings[:5]}
    return rows


def _code(code: "CodeIdentity") -> dict[str, str]:
    changed = {True: " with uncommitted changes", False: " clean", None: ""}[code.dirty]
    rows = {
        "commit": f"{code.commit or 'unknown'}{changed}",
        "sources": f"sha256 {code.source_hash}",
        "lock file": f"sha256 {code.lock_hash}" if code.lock_hash else "none",
        "python": code.python,
        "libraries": ", ".join(f"{name} {number}" for name, number in code.packages.items()),
    }
    if code.image:
        rows["image"] = code.image
    return rows


def _estimator(lineage: "Lineage", training: "TrainingRecord | None") -> dict[str, str]:
    parameters = ", ".join(f"{k}={v}" for k, v in lineage.parameters.items())
    rows = {
        "estimator": lineage.estimator,
        "parameters": parameters or "defaults",
        "seed": str(lineage.seed),
        "model.skops": f"sha256 {lineage.model_hash}",
        "model.onnx": f"sha256 {lineage.onnx_hash}",
    }
    if training is not None:
        parts = (training.train, training.calibration, training.holdout)
        rows["split"] = "train {:,}, calibration {:,}, holdout {:,} rows".format(
            *(part.rows for part in parts)
        )
        rows["took"] = f"{training.seconds:.1f} s, {training.peak_rss_bytes / 2**20:,.0f} MiB"
        top = list(training.importances.items())[:_MOST_IMPORTANT]
        rows["importance"] = ", ".join(f"{name} {share:.1%}" for name, share in top)
    return {key: value for key, value in rows.items() if value}


def _comparisons(console: "Console", explanation: "Explanation") -> None:
    evaluation = explanation.evaluation
    if evaluation is None:
        return
    gaps = dict(evaluation.baseline_differences)
    if evaluation.difference is not None:
        gaps = {f"champion v{evaluation.champion_version}": evaluation.difference, **gaps}
    for name, gap in gaps.items():
        console.print(
            f"  {evaluation.primary} against {name}: {gap.value:+.4f} "
            f"\\[{gap.low:+.4f}, {gap.high:+.4f}] (positive is better)",
            highlight=False,
        )
    if evaluation.champion_error:
        text = plain(evaluation.champion_error)
        console.print(f"  [yellow]champion not scored:[/] {text}", highlight=False)


def _gate(console: "Console", gate: "GateReport") -> None:
    console.print(f"\n[bold]Gate[/]  [{_COLOUR[gate.verdict]}]{gate.verdict}[/]")
    for reason in gate.reasons:
        colour = _COLOUR[reason.verdict]
        console.print(
            f"  [{colour}]{_MARK[reason.verdict]}[/] {plain(reason.text)}", highlight=False
        )


def _files(explanation: "Explanation") -> dict[str, str]:
    rows = {"run": explanation.run_url}
    if explanation.artifact_uri:
        rows["model"] = explanation.artifact_uri
    rows["artifacts"] = ", ".join(explanation.files)
    return rows


def section(console: "Console", title: str, rows: dict[str, str]) -> None:
    """Print facts under a title."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        shown: RenderableType = plain(value)
        grid.add_row(f"  {name}", shown)
    console.print(f"\n[bold]{title}[/]")
    console.print(grid)


def plain(text: str) -> str:
    """Text that holds no markup."""
    from rich.markup import escape

    return escape(text)
