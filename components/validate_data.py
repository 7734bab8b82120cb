"""Second step: is this data fit to train on?"""

from kfp import dsl

from components.decorator import component


@component()
def validate_data(
    spec: str,
    run_key: str,
    job_id: str,
    snapshot: dsl.Input[dsl.Dataset],
    quality: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> str:
    """Answer `usable` or `faulty`; the report names columns, counts and example rows."""
    from pathlib import Path

    from heliotrope.bootstrap import training_step

    with training_step("validate_data", spec, run_key or job_id) as run:
        return run.validate_data(
            Path(snapshot.path), Path(quality.path), Path(report.path), Path(summary.path)
        )
