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


def _uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
    # What a window holds, who is champion and which labels came change from run to run.
    return task.set_caching_options(False)


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
    collected = _uncached(collect_window(**this_run, since=since, until=until))
    rows = collected.outputs["rows"]
    checked = _uncached(check_window(**this_run, rows=rows))
    # In a row, since they write to one MLflow run and one log.
    scored = _uncached(score_drift(**this_run, rows=rows)).after(checked)
    measured = _uncached(measure_performance(**this_run, rows=rows)).after(scored)
    named = _uncached(diagnose_change(**this_run, rows=rows)).after(measured)
    _uncached(
        decide_retraining(
            **this_run,
            drift=scored.outputs["drift"],
            diagnosis=named.outputs["diagnosis"],
        )
    )
