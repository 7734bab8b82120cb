"""Monitoring, first step: the rows of one window, read once."""

from kfp import dsl

from components.decorator import component


@component()
def collect_window(
    spec: str,
    run_key: str,
    job_id: str,
    since: str,
    until: str,
    rows: dsl.Output[dsl.Dataset],
) -> None:
    """Read what the champion answered, with features and the labels there are."""
    from pathlib import Path

    from heliotrope.bootstrap import monitoring_step
    from heliotrope.service.monitoring_run import Asked

    with monitoring_step("collect_window", spec, run_key or job_id) as run:
        rows.metadata.update(run.collect_window(Asked(since, until), Path(rows.path)))
