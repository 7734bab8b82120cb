"""Fourth step: how does it do on rows it never saw, beside the champion?"""

from kfp import dsl

from components.decorator import component


@component()
def evaluate_model(
    spec: str,
    run_key: str,
    job_id: str,
    snapshot: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    curves: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> None:
    """Score the holdout with candidate, champion and baselines; draw what the UI can show."""
    from pathlib import Path

    from heliotrope.bootstrap import training_step

    with training_step("evaluate_model", spec, run_key or job_id) as run:
        shown = run.evaluate_model(
            Path(snapshot.path),
            Path(model.path),
            Path(evaluation.path),
            Path(report.path),
            Path(summary.path),
        )
    for name, value in shown.metrics.items():
        metrics.log_metric(name, value)
    if shown.roc is not None:
        curves.log_roc_curve(*shown.roc)
    if shown.confusion is not None:
        curves.log_confusion_matrix(*shown.confusion)
