"""`heliotrope monitor MODEL`: the monitoring pipeline on this machine, on one window."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from heliotrope.ports import Registry, RunLog


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("monitor")(monitor)


def monitor(
    model: str = typer.Argument(..., help="The model's name."),
    window: str | None = typer.Option(
        None,
        help="FROM..TO in UTC, such as 2026-03-01..2026-03-08, or TO alone; the newest window "
        "that is over when left out.",
    ),
    report: Path | None = typer.Option(
        None, "--report", help="Write the drift report, one HTML page, to this file."
    ),
    spec_file: Path | None = typer.Option(
        None, "--spec", help="The model's spec; the champion's when left out."
    ),
    json_output: bool = typer.Option(False, "--json", help="Drift, diagnosis and all, as JSON."),
) -> None:
    """Look at one window: data faults, drift, performance, diagnosis, and whether to retrain.

    Exit codes: 0 looked at, whatever was found; 3 there is no champion; 1 a step broke.
    """
    import os
    import secrets

    from heliotrope.bootstrap import platform
    from heliotrope.cli.run_view import RunView
    from heliotrope.cli.truth import spec_of
    from heliotrope.clock import clock_of
    from heliotrope.domain.run_events import EventKind
    from heliotrope.errors import HeliotropeError, NotFoundError
    from heliotrope.spec.loading import dump_spec
    from heliotrope.vocabulary import ALIAS_CHAMPION

    since, until = times(window)
    here, spec = platform(), spec_of(model, spec_file)
    if here.registry.by_alias(spec.name, ALIAS_CHAMPION) is None:
        raise NotFoundError(f"Monitoring needs a champion of {spec.name}. There is none yet.")
    now = clock_of(os.environ).now()
    run_key = f"{spec.name}-monitoring-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    arguments = {"spec": dump_spec(spec), "run_key": run_key, "since": since, "until": until}
    with RunView(spec.name, quiet=json_output) as view:
        code = here.runs.run("monitoring.yaml", arguments, run_key, on_event=view.show)
    log = here.runs.log(run_key)
    if code:
        failed = [e for e in log.events() if e.kind is EventKind.FAILED]
        what = f"{failed[-1].step}: {failed[-1].text}" if failed else f"see {log.where}"
        raise HeliotropeError(f"The monitoring run {run_key} must end well. {what}")
    if report is not None:
        _write_report(here.registry, run_key, report)
    _show(log, run_key, json_output)


def times(window: str | None) -> tuple[str, str]:
    """FROM and TO as ISO times in UTC, empty where left out.

    Raises:
        UsageError: they are no times, or in the wrong order.

    >>> times("2026-03-01..2026-03-08T12:00")
    ('2026-03-01T00:00:00+00:00', '2026-03-08T12:00:00+00:00')
    """
    from heliotrope.errors import UsageError

    if not window:
        return "", ""
    parts = re.split(r"\.\.", window)
    try:
        read = [datetime.fromisoformat(part) for part in parts if part]
    except ValueError:
        read = []
    if not 1 <= len(parts) <= 2 or len(read) != len([p for p in parts if p]) or not parts[-1]:
        raise UsageError(
            f"--window must be FROM..TO, such as 2026-03-01..2026-03-08, or TO. Got {window!r}."
        )
    aware = [one if one.tzinfo else one.replace(tzinfo=UTC) for one in read]
    texts = [one.astimezone(UTC).isoformat() for one in aware]
    if len(aware) == 2 and aware[0] >= aware[1]:
        raise UsageError(f"--window must begin before it ends. Got {window!r}.")
    return ("", texts[0]) if len(texts) == 1 else (texts[0], texts[1])


def _write_report(registry: "Registry", run_key: str, target: Path) -> None:
    from heliotrope.errors import NotFoundError, UsageError

    run_id = registry.find_run(run_key)
    if run_id is None:
        raise NotFoundError(f"The run {run_key} must be in MLflow. It is not.")
    try:
        target.write_text(registry.read_text(run_id, "monitoring/drift.html"))
    except OSError as error:
        raise UsageError(f"--report must be writable. Got {target}: {error.strerror}.") from error
    typer.echo(f"Report: {target}", err=True)


def _show(log: "RunLog", run_key: str, json_output: bool) -> None:
    import json

    from heliotrope.domain.drift import DriftReport
    from heliotrope.domain.remedy import Diagnosis
    from heliotrope.service.monitoring_run import (
        KEPT_DECISION,
        KEPT_DIAGNOSIS,
        KEPT_DRIFT,
        KEPT_PERFORMANCE,
    )

    texts = {
        name: log.kept(name) or "{}" for name in (KEPT_DRIFT, KEPT_PERFORMANCE, KEPT_DIAGNOSIS)
    }
    decision = log.kept(KEPT_DECISION) or ""
    if json_output:
        shown = {name.removesuffix(".json"): json.loads(text) for name, text in texts.items()}
        typer.echo(json.dumps({"run_key": run_key, **shown, "decision": decision}, indent=2))
        return
    drift = DriftReport.from_json(texts[KEPT_DRIFT])
    found = Diagnosis.from_json(texts[KEPT_DIAGNOSIS])
    for fault in drift.faults:
        typer.echo(f"{fault.level}: {fault.message}")
    typer.echo(f"drift {drift.verdict}: {drift.reason}.")
    typer.echo(json.loads(texts[KEPT_PERFORMANCE])["text"] + ".")
    typer.echo(
        f"{found.kind.replace('_', ' ')}, remedy {found.remedy.replace('_', ' ')}: {found.reason}"
    )
    typer.echo(decision)
