"""Monitoring, second step: is anything wrong with the rows?"""

from kfp import dsl

from components.decorator import component


@component()
def check_window(
    spec: str,
    run_key: str,
    job_id: str,
    rows: dsl.Input[dsl.Dataset],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Data faults, which are no drift: nulls, stuck, rescaled, swapped, out of bounds."""
    from pathlib import Path

    from heliotrope.bootstrap import monitoring_step

    with monitoring_step("check_window", spec, run_key or job_id) as run:
        run.check_window(Path(rows.path), Path(summary.path))
