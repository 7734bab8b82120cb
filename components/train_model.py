"""Third step: fit, calibrate, export."""

from kfp import dsl

from components.decorator import component


@component()
def train_model(
    spec: str,
    run_key: str,
    job_id: str,
    since: str,
    snapshot: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> None:
    """Write the model folder: scikit-learn pipeline, ONNX graph, serving contract, record."""
    from pathlib import Path

    from heliotrope.bootstrap import training_step

    with training_step("train_model", spec, run_key or job_id) as run:
        figures = run.train_model(Path(snapshot.path), Path(model.path), since)
        for name, value in figures.items():
            metrics.log_metric(name, value)
