"""The monitoring pipeline: collect, check, score, measure, diagnose, decide.

Run it as a recurring run on a cluster, or with `heliotrope monitor` on a laptop; the controller
judges each window by itself with the same code, without the pictures.
"""

from kfp import dsl

from components.check_window import check_window
from components.collect_window import collect_window
from components.decide_retraining import decide_retraining
from components.diagnose_change import diagnose_change
from components.measure_performance import measure_performance
from components.score_drift import score_drift
from pipelines.placing import DATA, SMALL, place


@dsl.pipeline(
    name="heliotrope-monitoring",
    description="Look at one window of a live model from all sides, and decide.",
)
def monitoring(spec: str, run_key: str = "", since: str = "", until: str = "") -> None:
    """Monitor one model.

    Args:
        spec: the ModelSpec, as YAML text.
        run_key: name of this run in MLflow; KFP's own run id when empty.
        since: of prediction time, ISO, UTC; one window before `until` when empty.
        until: exclusive; the end of the newest window that is over when empty.
    """
    this_run = {"spec": spec, "run_key": run_key, "job_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
    collected = place(collect_window(**this_run, since=since, until=until), DATA)
    rows = collected.outputs["rows"]
    checked = place(check_window(**this_run, rows=rows), DATA)
    # In a row, since they write to one MLflow run and one log.
    scored = place(score_drift(**this_run, rows=rows), DATA).after(checked)
    measured = place(measure_performance(**this_run, rows=rows), DATA).after(scored)
    named = place(diagnose_change(**this_run, rows=rows), DATA).after(measured)
    place(
        decide_retraining(
            **this_run,
            drift=scored.outputs["drift"],
            diagnosis=named.outputs["diagnosis"],
        ),
        SMALL,
        state=True,
    )
