"""Monitoring, fifth step: what changed, and what is to be done?"""

from kfp import dsl

from components.decorator import component


@component()
def diagnose_change(
    spec: str,
    run_key: str,
    job_id: str,
    rows: dsl.Input[dsl.Dataset],
    diagnosis: dsl.Output[dsl.Artifact],
    summary: dsl.Output[dsl.Markdown],
) -> str:
    """Answer the remedy: fix_data, check_labels, retrain or wait."""
    from pathlib import Path

    from heliotrope.bootstrap import monitoring_step

    with monitoring_step("diagnose_change", spec, run_key or job_id) as run:
        return run.diagnose_change(Path(rows.path), Path(diagnosis.path), Path(summary.path))
