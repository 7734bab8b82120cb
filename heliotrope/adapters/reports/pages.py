"""The reports as a training run asks for them; a `service.training_tools.Reports`."""

from collections.abc import Mapping

from heliotrope.adapters.plots import plots_svg
from heliotrope.adapters.reports.data_quality import render_quality_html, render_quality_markdown
from heliotrope.adapters.reports.evaluation import (
    render_evaluation_html,
    render_evaluation_markdown,
    render_gate_markdown,
)
from heliotrope.domain.evaluation import Evaluation
from heliotrope.domain.gate import GateReport
from heliotrope.domain.quality import QualityReport
from heliotrope.domain.training import TrainingRecord


class ReportPages:
    """HTML, Markdown and pictures."""

    def quality_html(self, report: QualityReport) -> str:
        """One self-contained page."""
        return render_quality_html(report)

    def quality_markdown(self, report: QualityReport) -> str:
        """The same in Markdown."""
        return render_quality_markdown(report)

    def plots(self, evaluation: Evaluation, record: TrainingRecord) -> Mapping[str, str]:
        """Curves, confusion matrix, importances and training curve as SVG, by name."""
        return plots_svg(evaluation, record)

    def evaluation_html(
        self,
        evaluation: Evaluation,
        gate: GateReport,
        record: TrainingRecord,
        plots: Mapping[str, str],
        model: str,
    ) -> str:
        """One self-contained page with the plots in it."""
        return render_evaluation_html(evaluation, gate, record, plots, model=model)

    def evaluation_markdown(self, evaluation: Evaluation, gate: GateReport, model: str) -> str:
        """The same in Markdown."""
        return render_evaluation_markdown(evaluation, gate, model=model)

    def gate_markdown(self, gate: GateReport, model: str) -> str:
        """Verdict and reasons."""
        return render_gate_markdown(gate, model=model)
