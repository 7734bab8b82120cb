"""Monitoring, last step: record the verdict, and ask the one door where drift persists."""

from kfp import dsl

from components.decorator import component


@component()
def decide_retraining(
    spec: str,
    run_key: str,
    job_id: str,
    drift: dsl.Input[dsl.Artifact],
    diagnosis: dsl.Input[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """K of the last N windows ask for a retraining; the door decides."""
    from pathlib import Path

    from heliotrope.bootstrap import monitoring_step

    with monitoring_step("decide_retraining", spec, run_key or job_id) as run:
        run.decide_retraining(Path(drift.path), Path(diagnosis.path), Path(summary.path))
