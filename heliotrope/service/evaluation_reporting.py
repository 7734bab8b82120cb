"""Tells people of an evaluation: pages, plots and numbers, in MLflow and in the pipeline's UI."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from heliotrope.domain.curves import confusion_matrix, roc_points
from heliotrope.domain.evaluation import Evaluation
from heliotrope.domain.gate import judge
from heliotrope.domain.training import TrainingRecord
from heliotrope.ports import Registry
from heliotrope.service.training_tools import Reports
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import ARTIFACT_EVALUATION


@dataclass(frozen=True)
class Shown:
    """What the KFP UI draws of an evaluation."""

    metrics: Mapping[str, float]
    """Finite ones only: KFP stores them as JSON, which has no NaN."""
    roc: tuple[list[float], list[float], list[float]] | None
    """fpr, tpr, thresholds."""
    confusion: tuple[list[str], list[list[int]]] | None
    """Classes, counts."""


@dataclass(frozen=True)
class Pages:
    """An evaluation for people."""

    html: str
    markdown: str


def show(evaluation: Evaluation) -> Shown:
    """What the KFP UI draws."""
    roc, confusion = roc_points(evaluation), confusion_matrix(evaluation)
    values = {name: metric.value for name, metric in evaluation.metrics.items()}
    return Shown(
        metrics={name: value for name, value in values.items() if math.isfinite(value)},
        roc=roc if roc[0] else None,
        confusion=confusion if confusion[1] else None,
    )


def publish(
    reports: Reports,
    registry: Registry,
    run_id: str,
    spec: ModelSpec,
    evaluation: Evaluation,
    record: TrainingRecord,
) -> Pages:
    """Write pages, plots and numbers to the MLflow run; answers the pages.

    Raises:
        UnavailableError: MLflow does not answer.
    """
    # The verdict is pure, so the page can show it before the gate's own step says it.
    gate = judge(spec, evaluation)
    plots = reports.plots(evaluation, record)
    pages = Pages(
        html=reports.evaluation_html(evaluation, gate, record, plots, spec.name),
        markdown=reports.evaluation_markdown(evaluation, gate, spec.name),
    )
    registry.log(run_id, metrics=_numbers(evaluation))
    documents = {f"plots/{name}.svg": svg for name, svg in plots.items()}
    documents |= {
        "evaluation.json": evaluation.to_json(),
        "evaluation.html": pages.html,
        "evaluation.md": pages.markdown,
    }
    for name, text in documents.items():
        registry.log_text(run_id, text, f"{ARTIFACT_EVALUATION}/{name}")
    return pages


def _numbers(evaluation: Evaluation) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in evaluation.metrics.items():
        numbers |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
    for name, value in evaluation.champion.items():
        numbers[f"champion_{name}"] = value.value
    for baseline, values in evaluation.baselines.items():
        numbers |= {f"{baseline}_{name}": value.value for name, value in values.items()}
    if evaluation.difference is not None:
        numbers["difference_to_champion"] = evaluation.difference.value
    return numbers
