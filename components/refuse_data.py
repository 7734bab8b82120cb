"""The step after a fatal finding: the run ends red, saying why."""

from kfp import dsl

from components.decorator import component


@component()
def refuse_data(spec: str, run_key: str, job_id: str, quality: dsl.Input[dsl.Artifact]) -> None:
    """Raise with the fatal findings, so that the run fails where a person looks."""
    from pathlib import Path

    from heliotrope.bootstrap import training_step

    with training_step("refuse_data", spec, run_key or job_id) as run:
        run.refuse_data(Path(quality.path))
