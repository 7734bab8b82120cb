"""The evaluation and the gate's verdict, as a page and as Markdown."""

import math
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from heliotrope.domain.evaluation import Difference, Evaluation, MetricValue
from heliotrope.domain.gate import GateReport
from heliotrope.domain.lineage import Lineage
from heliotrope.domain.training import TrainingRecord
from heliotrope.spec.metrics import METRICS

SHOWN_SLICES = 200
"""Most slices a page lists; the document holds all."""
CAPTIONS = {
    "roc": "How many of the positives are found as more negatives are called.",
    "precision_recall": "Share of right calls against share of positives found.",
    "calibration": "On the dashed line a predicted probability is what happens.",
    "confusion": "Rows are true classes; the percentage is of that row.",
    "importances": "What the score loses when a feature is shuffled.",
    "training_curve": "A validation loss that rises while the training loss falls is overfitting.",
}


def render_evaluation_html(
    evaluation: Evaluation,
    gate: GateReport | None = None,
    record: TrainingRecord | None = None,
    plots: Mapping[str, str] | None = None,
    *,
    model: str = "",
    lineage: Lineage | None = None,
) -> str:
    """One page with everything about a candidate; no network, works in light and dark.

    Args:
        evaluation: what was measured.
        gate: the verdict, first on the page; None before the gate has judged.
        record: how it was fitted.
        plots: inline SVG by name, as `plots.plots_svg` gives them; put into the page unescaped.
        model: name in the title.
        lineage: where it came from, told in short.
    """
    template = _environment(html=True).get_template("evaluation.html.j2")
    return template.render(
        **_context(evaluation),
        gate=gate,
        record=record,
        plots=plots or {},
        model=model,
        lineage=lineage,
    )


def render_evaluation_markdown(
    evaluation: Evaluation, gate: GateReport | None = None, *, model: str = ""
) -> str:
    """The page's verdict and tables as Markdown, for the pipeline UI and for text."""
    template = _environment(html=False).get_template("evaluation.md.j2")
    return template.render(**_context(evaluation), gate=gate, model=model)


def render_gate_markdown(gate: GateReport, *, model: str = "") -> str:
    """The verdict and its reasons as Markdown."""
    return _environment(html=False).get_template("gate.md.j2").render(gate=gate, model=model)


def render_gate_html(gate: GateReport, *, model: str = "") -> str:
    """The verdict and its reasons as a page."""
    return _environment(html=True).get_template("gate.html.j2").render(gate=gate, model=model)


def _environment(*, html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("heliotrope.adapters", "reports"),
        autoescape=select_autoescape(["html.j2"], default_for_string=False) if html else False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": _value,
        "between": _between,
        "metric": _metric,
        "gap": _gap,
        "cell": _cell,
    }
    return environment


def _context(evaluation: Evaluation) -> dict[str, object]:
    primary = evaluation.primary
    names = [primary, *(name for name in evaluation.metrics if name != primary)]
    worst_first = sorted(
        evaluation.slices,
        key=lambda part: (part.difference.value if part.difference else math.inf, part.name),
    )
    return {
        "evaluation": evaluation,
        "names": [name for name in names if name in evaluation.metrics],
        "slices": worst_first[:SHOWN_SLICES],
        "slices_left_out": max(0, len(worst_first) - SHOWN_SLICES),
        "catalogue": METRICS,
        "captions": CAPTIONS,
        "partial": bool(evaluation.candidate_compared),
    }


def _value(number: float) -> str:
    if not math.isfinite(number):
        return "undefined"
    return f"{number:.4f}" if abs(number) < 1000 else f"{number:,.1f}"


def _between(metric: MetricValue | Difference) -> str:
    if not (math.isfinite(metric.low) and math.isfinite(metric.high)):
        return "no interval"
    return f"{_value(metric.low)} to {_value(metric.high)}"


def _metric(metric: MetricValue | None) -> str:
    return "–" if metric is None else f"{_value(metric.value)} [{_between(metric)}]"


def _gap(difference: Difference | None) -> str:
    if difference is None:
        return "–"
    numbers = (difference.value, difference.low, difference.high)
    if not all(math.isfinite(number) for number in numbers):
        return "undefined"
    value, low, high = (f"{number:+.4f}" for number in numbers)
    return f"{value} [{low} to {high}]"


def _cell(text: object) -> str:
    """Text in a Markdown table or list: no pipe, line break or markup of its own."""
    flat = " ".join(str(text).split())
    for mark in "\\`*_|<>[]":
        flat = flat.replace(mark, f"\\{mark}")
    return flat
