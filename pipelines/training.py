"""The training pipeline: snapshot, validate, train, evaluate, gate, register, roll out.

The same compiled file runs on a cluster and, through kfp.local, on a laptop.
"""

from kfp import dsl

from components.await_rollout import await_rollout
from components.deploy_candidate import deploy_candidate
from components.evaluate_model import evaluate_model
from components.gate_model import gate_model
from components.refuse_candidate import refuse_candidate
from components.refuse_data import refuse_data
from components.register_model import register_model
from components.report_outcome import report_outcome
from components.snapshot_data import snapshot_data
from components.train_model import train_model
from components.validate_data import validate_data
from heliotrope.vocabulary import DATA_USABLE, Verdict


def _uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
    # These steps write to the store or the registry, or read what others changed there.
    return task.set_caching_options(False)


@dsl.pipeline(
    name="heliotrope-training",
    description="Train, judge and register one model as its spec says.",
)
def training(spec: str, run_key: str = "", cause: str = "person", since: str = "") -> None:
    """Train one model.

    Args:
        spec: the ModelSpec, as YAML text.
        run_key: name of this run in MLflow; KFP's own run id when empty.
        cause: why the run was started.
        since: when the world changed (ISO 8601), where the cause knows; empty otherwise.
    """
    this_run = {"spec": spec, "run_key": run_key, "job_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
    outcome = _uncached(report_outcome(**this_run))
    with dsl.ExitHandler(outcome, name="train"):
        taken = _uncached(snapshot_data(**this_run, cause=cause))
        snapshot = taken.outputs["snapshot"]
        checked = _uncached(validate_data(**this_run, snapshot=snapshot))
        quality = checked.outputs["quality"]
        # Every If has its Else: kfp.local takes a lone If on a named output for false.
        with dsl.If(checked.outputs["Output"] == DATA_USABLE, name="usable data"):
            model = _uncached(train_model(**this_run, since=since, snapshot=snapshot)).outputs[
                "model"
            ]
            judged = _uncached(evaluate_model(**this_run, snapshot=snapshot, model=model))
            evaluation = judged.outputs["evaluation"]
            gated = gate_model(spec=spec, evaluation=evaluation)
            gate = gated.outputs["gate"]
            with dsl.If(gated.outputs["Output"] == Verdict.PASS.value, name="accepted"):
                version = _uncached(
                    register_model(
                        **this_run,
                        cause=cause,
                        snapshot=snapshot,
                        quality=quality,
                        model=model,
                        evaluation=evaluation,
                        gate=gate,
                    )
                ).output
                deployed = _uncached(deploy_candidate(**this_run, cause=cause, version=version))
                _uncached(await_rollout(**this_run, version=version, deployed=deployed.output))
            with dsl.Else(name="not accepted"):
                _uncached(refuse_candidate(**this_run, gate=gate))
        with dsl.Else(name="faulty data"):
            _uncached(refuse_data(**this_run, quality=quality))
