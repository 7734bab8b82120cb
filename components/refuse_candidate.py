"""Last step after any other verdict: nothing is registered, and the run says so."""

from kfp import dsl

from components.decorator import component


@component()
def refuse_candidate(spec: str, run_key: str, job_id: str, gate: dsl.Input[dsl.Artifact]) -> None:
    """Record why the candidate was not accepted. A well-reported outcome, not a crash."""
    from pathlib import Path

    from heliotrope.bootstrap import training_step

    with training_step("refuse_candidate", spec, run_key or job_id) as run:
        run.refuse_candidate(Path(gate.path))
