"""What a training run is given: the ports, and the makers of what needs a file or a snapshot."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from heliotrope.domain.evaluation import Evaluation
from heliotrope.domain.gate import GateReport
from heliotrope.domain.lineage import CodeIdentity
from heliotrope.domain.quality import QualityReport
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.training import TrainingRecord
from heliotrope.ports import (
    EvaluationData,
    FloatMatrix,
    FloatVector,
    Registry,
    RunLog,
    Scorer,
    SnapshotStore,
    SourceReader,
    Trainer,
    TrainingData,
)
from heliotrope.ports.serving import Serving
from heliotrope.service.rollout import RolloutService
from heliotrope.spec import ModelSpec

LoadScorer = Callable[[Path], Scorer]


class TrainedPipeline(Protocol):
    """A fitted pipeline read back from its file."""

    def score(self, features: FloatMatrix) -> FloatVector:
        """From the float32 matrix."""
        ...

    def score_raw(self, rows: Sequence[Mapping[str, Any]]) -> FloatVector:
        """From raw rows, through the pipeline's own preprocessing."""
        ...


class Reports(Protocol):
    """Turns documents into pages for people."""

    def quality_html(self, report: QualityReport) -> str:
        """One self-contained page."""
        ...

    def quality_markdown(self, report: QualityReport) -> str:
        """The same, shorter."""
        ...

    def plots(self, evaluation: Evaluation, record: TrainingRecord) -> Mapping[str, str]:
        """Curves, confusion matrix, importances and training curve as SVG, by name."""
        ...

    def evaluation_html(
        self,
        evaluation: Evaluation,
        gate: GateReport,
        record: TrainingRecord,
        plots: Mapping[str, str],
        model: str,
    ) -> str:
        """One self-contained page with the plots in it."""
        ...

    def evaluation_markdown(self, evaluation: Evaluation, gate: GateReport, model: str) -> str:
        """The same, shorter."""
        ...

    def gate_markdown(self, gate: GateReport, model: str) -> str:
        """Verdict and reasons."""
        ...


class TrainingTools(Protocol):
    """Everything a training run uses; each part is made when it is first asked for."""

    @property
    def registry(self) -> Registry:
        """Runs and versions."""
        ...

    @property
    def snapshots(self) -> SnapshotStore:
        """Immutable data."""
        ...

    def source_reader(self, spec: ModelSpec) -> SourceReader:
        """Reads a spec's source, and the labelled log where the spec wants it."""
        ...

    @property
    def trainer(self) -> Trainer:
        """Fits estimators."""
        ...

    @property
    def reports(self) -> Reports:
        """Pages for people."""
        ...

    @property
    def serving(self) -> Serving:
        """Where versions run."""
        ...

    @property
    def rollouts(self) -> RolloutService:
        """What moves traffic and the champion alias."""
        ...

    @property
    def model_cache(self) -> Path:
        """Folder of downloaded versions."""
        ...

    def training_data(self, ref: SnapshotRef, spec: ModelSpec) -> TrainingData:
        """A snapshot to train on."""
        ...

    def evaluation_data(self, ref: SnapshotRef, spec: ModelSpec) -> EvaluationData:
        """A snapshot to judge on."""
        ...

    def load_scorer(self, onnx: Path) -> Scorer:
        """The served model."""
        ...

    def load_pipeline(self, folder: Path, spec: ModelSpec) -> TrainedPipeline:
        """The trained pipeline of a model folder."""
        ...

    def benchmark(self, onnx: Path, features: FloatMatrix) -> Mapping[str, float]:
        """How quick the served model is on this machine."""
        ...

    def code_identity(self) -> CodeIdentity:
        """Which code runs."""
        ...

    def run_log(self, run_key: str) -> RunLog:
        """The log of a run."""
        ...


def flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Nested parameters as MLflow keeps them, `trainer.max_iter`."""
    return {f"{prefix}.{name}": value for name, value in values.items()}
