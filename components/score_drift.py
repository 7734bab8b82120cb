"""Monitoring, third step: has the data moved?"""

from kfp import dsl

from components.decorator import component


@component()
def score_drift(
    spec: str,
    run_key: str,
    job_id: str,
    rows: dsl.Input[dsl.Dataset],
    drift: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """The verdict on every column, drawn by Evidently."""
    from pathlib import Path

    from heliotrope.bootstrap import monitoring_step

    with monitoring_step("score_drift", spec, run_key or job_id) as run:
        found = run.score_drift(
            Path(rows.path), Path(drift.path), Path(report.path), Path(summary.path)
        )
    for name, value in found.items():
        metrics.log_metric(name, value)
