"""Last step after a PASS: a new version in the registry."""

from kfp import dsl

from components.decorator import component


@component()
def register_model(
    spec: str,
    run_key: str,
    job_id: str,
    cause: str,
    snapshot: dsl.Input[dsl.Dataset],
    quality: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    gate: dsl.Input[dsl.Artifact],
) -> str:
    """Prove that the served model answers as the trained one, register it, answer its version."""
    from pathlib import Path

    from heliotrope.bootstrap import training_step

    with training_step("register_model", spec, run_key or job_id) as run:
        return run.register_model(
            cause,
            Path(snapshot.path),
            Path(quality.path),
            Path(model.path),
            Path(evaluation.path),
            Path(gate.path),
        )
