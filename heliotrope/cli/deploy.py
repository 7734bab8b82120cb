"""`heliotrope deploy SPEC`, `heliotrope destroy MODEL`, `heliotrope doctor`: a cluster's models."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from heliotrope.bootstrap_cluster import ClusterPlatform
    from heliotrope.domain.deployment import Change, Step
    from heliotrope.ports.deploying import DeployPart

_JSON = typer.Option(False, "--json", help="As JSON.")
_DRY = typer.Option(False, "--dry-run", help="Show what would change, and change nothing.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("deploy")(deploy)
    app.command("destroy")(destroy)
    app.command("doctor")(doctor)


def deploy(
    spec_file: Path = typer.Argument(..., metavar="SPEC", help="The model's spec."),
    image: str | None = typer.Option(
        None, help="Of the pipelines' steps, by digest; HELIOTROPE_IMAGE when left out."
    ),
    dry_run: bool = _DRY,
    json_output: bool = _JSON,
) -> None:
    """Put a model on a cluster: its spec, pipelines, schedules, and the champion's predictor.

    A second time does nothing. What fails ends it with that error's exit code; the same command
    goes on from there.
    """
    import os

    from heliotrope.clock import clock_of
    from heliotrope.spec import load_spec

    spec = load_spec(spec_file)
    with _cluster() as here:
        parts = here.deployment(spec, clock_of(os.environ).now, image)
        _carry(here, parts, dry_run, json_output)


def destroy(
    model: str = typer.Argument(..., help="The model's name, or its spec's file."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
    dry_run: bool = _DRY,
    json_output: bool = _JSON,
) -> None:
    """Take away what `deploy` put there. Versions, runs, tables and the decision log stay."""
    from heliotrope.errors import UsageError
    from heliotrope.spec import load_spec

    name = load_spec(Path(model)).name if Path(model).is_file() else model
    with _cluster() as here:
        parts = here.removal(name)
        if not dry_run and not yes:
            if json_output:
                raise UsageError("--json must come with --yes or --dry-run: it asks nothing.")
            if not _foreseen(here, parts, json_output=False):
                return
            typer.confirm("Remove them?", abort=True)
        _carry(here, parts, dry_run, json_output)


def doctor(
    account: str = typer.Option(
        "deployer", help="Whose rights are asked for: deployer, controller, pipeline."
    ),
    json_output: bool = _JSON,
) -> None:
    """Say what a cluster has and lacks, each with its remedy.

    Exit codes: 0 all that is needed is there; 1 something is not; 6 the cluster does not answer.
    """
    import json
    from dataclasses import asdict

    from heliotrope.domain.cluster_findings import findings, healthy

    with _cluster(account) as here:
        found = findings(here.inspect())
    if json_output:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
    else:
        mark = {"ok": "✓", "lacks": "✗", "without": "-", "unknown": "?"}
        width = max(len(one.topic) for one in found)
        for one in found:
            typer.echo(f"{mark[one.standing]} {one.topic:<{width}}  {one.says}")
            if one.remedy:
                typer.echo(f"  {'':<{width}}  → {one.remedy}")
    if not healthy(found):
        raise typer.Exit(1)


def _cluster(account: str = "deployer") -> "AbstractContextManager[ClusterPlatform]":
    import os
    from contextlib import closing

    from heliotrope.adapters.cluster.access import Account
    from heliotrope.bootstrap_cluster import ClusterPlatform
    from heliotrope.errors import UsageError
    from heliotrope.settings import Settings

    if account not in set(Account):
        raise UsageError(f"--account must be one of {', '.join(Account)}. Got {account!r}.")
    settings = Settings.parse(os.environ, Path.cwd())
    return closing(ClusterPlatform(settings, os.environ, account))


def _carry(
    here: "ClusterPlatform", parts: "Sequence[DeployPart]", dry_run: bool, json_output: bool
) -> None:
    from heliotrope.domain.deployment import summary
    from heliotrope.service.deploying import carry_out

    if dry_run:
        _foreseen(here, parts, json_output)
        return
    if not json_output:
        typer.echo(f"In {here.shown}, KFP at {here.kfp.options.url}:")
    done = carry_out(parts, lambda step: None if json_output else typer.echo(_line(step)))
    if json_output:
        _echo_json([_document(step.change) | _state(step) for step in done.steps])
    else:
        typer.echo(summary(done.steps))
    if done.failure is not None:
        raise done.failure


def _foreseen(
    here: "ClusterPlatform", parts: "Sequence[DeployPart]", json_output: bool
) -> "list[Change]":
    """Show what would change; answers what would act."""
    from heliotrope.domain.deployment import SIGNS, foretold
    from heliotrope.service.deploying import foresee

    changes = foresee(parts)
    if json_output:
        _echo_json([_document(change) for change in changes])
    else:
        typer.echo(f"In {here.shown}, KFP at {here.kfp.options.url}:")
        for change in changes:
            typer.echo(_head(SIGNS[change.action], change))
            for line in change.details:
                typer.echo(f"      {line}")
        typer.echo(foretold(changes))
    return [change for change in changes if change.action.acts]


def _line(step: "Step") -> str:
    from heliotrope.domain.deployment import SIGNS, StepState

    sign = {StepState.FAILED: "!", StepState.NOT_TRIED: "."}
    told = _head(sign.get(step.state, SIGNS[step.change.action]), step.change)
    if step.state is StepState.NOT_TRIED:
        return f"{told} (not tried)"
    return f"{told}\n      {step.error}" if step.error else told


def _head(sign: str, change: "Change") -> str:
    why = f"  {change.why}" if change.why else ""
    return f"  {sign} {change.kind} {change.name}{why}"


def _document(change: "Change") -> dict[str, Any]:
    return {
        "kind": change.kind,
        "name": change.name,
        "action": str(change.action),
        "why": change.why,
        "details": list(change.details),
    }


def _state(step: "Step") -> dict[str, Any]:
    return {"state": str(step.state), "error": step.error}


def _echo_json(found: list[dict[str, Any]]) -> None:
    import json

    typer.echo(json.dumps(found, indent=2))
