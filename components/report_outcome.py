"""Exit handler: whatever happened, say so to the person and to the MLflow run."""

from kfp import dsl

from components.decorator import component


@component()
def report_outcome(
    spec: str,
    run_key: str,
    job_id: str,
    status: dsl.PipelineTaskFinalStatus,
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """End the MLflow run and write how the pipeline ended, with the failed step's own words."""
    from pathlib import Path

    from heliotrope.bootstrap import report_training

    report_training(spec, run_key or job_id, status.state, status.error_message, Path(summary.path))
