"""The reports as a training run asks for them; a `service.training_tools.Reports`."""

from pathlib import Path

from heliotrope.adapters import plots
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

    def evaluation_html(
        self, evaluation: Evaluation, gate: GateReport, record: TrainingRecord | None
    ) -> str:
        """One self-contained page."""
        return render_evaluation_html(evaluation, gate, record)

    def evaluation_markdown(self, evaluation: Evaluation, gate: GateReport) -> str:
        """The same in Markdown."""
        return render_evaluation_markdown(evaluation, gate)

    def gate_markdown(self, gate: GateReport) -> str:
        """Verdict and reasons."""
        return render_gate_markdown(gate)

    def plots(self, evaluation: Evaluation, record: TrainingRecord, folder: Path) -> None:
        """Curves, confusion matrix, importances and training curve as pictures."""
        for name, picture in plots.plots_png(evaluation, record).items():
            (folder / f"{name}.png").write_bytes(picture)
