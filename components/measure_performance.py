"""Monitoring, fourth step: how right was it, as far as labels came?"""

from kfp import dsl

from components.decorator import component


@component()
def measure_performance(
    spec: str,
    run_key: str,
    job_id: str,
    rows: dsl.Input[dsl.Dataset],
    performance: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Metrics over labelled rows, and what the scores promise of all."""
    from pathlib import Path

    from heliotrope.bootstrap import monitoring_step

    with monitoring_step("measure_performance", spec, run_key or job_id) as run:
        found = run.measure_performance(Path(rows.path), Path(performance.path), Path(summary.path))
    for name, value in found.items():
        metrics.log_metric(name, value)
