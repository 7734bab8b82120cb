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
from pipelines.placing import DATA, SMALL, TRAIN, WATCH, place, place_pure


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
    outcome = place(report_outcome(**this_run), SMALL)
    with dsl.ExitHandler(outcome, name="train"):
        taken = place(snapshot_data(**this_run, cause=cause), DATA, state=True)
        snapshot = taken.outputs["snapshot"]
        checked = place(validate_data(**this_run, snapshot=snapshot), DATA)
        quality = checked.outputs["quality"]
        # Every If has its Else: kfp.local takes a lone If on a named output for false.
        with dsl.If(checked.outputs["Output"] == DATA_USABLE, name="usable data"):
            fitted = place(train_model(**this_run, since=since, snapshot=snapshot), TRAIN)
            model = fitted.outputs["model"]
            judged = place(evaluate_model(**this_run, snapshot=snapshot, model=model), DATA)
            evaluation = judged.outputs["evaluation"]
            gated = place_pure(gate_model(spec=spec, evaluation=evaluation), SMALL)
            gate = gated.outputs["gate"]
            with dsl.If(gated.outputs["Output"] == Verdict.PASS.value, name="accepted"):
                registered = register_model(
                    **this_run,
                    cause=cause,
                    snapshot=snapshot,
                    quality=quality,
                    model=model,
                    evaluation=evaluation,
                    gate=gate,
                )
                version = place(registered, DATA).output
                deployed = place(
                    deploy_candidate(**this_run, cause=cause, version=version), SMALL, state=True
                ).output
                place(
                    await_rollout(**this_run, version=version, deployed=deployed),
                    WATCH,
                    state=True,
                )
            with dsl.Else(name="not accepted"):
                place(refuse_candidate(**this_run, gate=gate), SMALL)
        with dsl.Else(name="faulty data"):
            # It ends in an error by intent: once is enough.
            place(refuse_data(**this_run, quality=quality), SMALL, repeat=False)
