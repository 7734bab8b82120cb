"""After registration: the candidate's rollout is recorded and its first plan applied."""

from components.decorator import component


@component()
def deploy_candidate(spec: str, run_key: str, job_id: str, cause: str, version: str) -> str:
    """Make the first move of a rollout; the controller makes the others. Answers what was done."""
    from heliotrope.bootstrap import training_step

    with training_step("deploy_candidate", spec, run_key or job_id) as run:
        return run.deploy_candidate(version, cause)
