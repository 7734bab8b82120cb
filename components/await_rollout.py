"""Last step after a PASS: where the spec says so, wait for the rollout's end and show it."""

from kfp import dsl

from components.decorator import component


@component()
def await_rollout(
    spec: str,
    run_key: str,
    job_id: str,
    version: str,
    deployed: str,
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Write how the rollout ended, or, where it is not waited for, what was done so far."""
    from pathlib import Path

    from heliotrope.bootstrap import training_step

    with training_step("await_rollout", spec, run_key or job_id) as run:
        run.await_rollout(version, deployed, Path(summary.path))
