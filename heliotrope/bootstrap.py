"""The only place that chooses adapters: what runs here, wired together.

Nothing heavy is imported until a part is asked for, so that `--help` stays quick.
"""

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from heliotrope.clock import clock_of
from heliotrope.settings import Settings
from heliotrope.vocabulary import CONTROLLER_LOCK_FILE, Place

if TYPE_CHECKING:
    from heliotrope.adapters.scrape_watch import ScrapeWatch
    from heliotrope.adapters.sql_state import SqlStateStore
    from heliotrope.domain.drift import DriftReport
    from heliotrope.domain.lineage import CodeIdentity
    from heliotrope.domain.snapshot import SnapshotRef
    from heliotrope.ports import (
        AnswerFinder,
        EvaluationData,
        FloatMatrix,
        Registry,
        Scorer,
        SnapshotStore,
        SourceReader,
        Trainer,
        TrainingData,
    )
    from heliotrope.ports.outcomes import OutcomeReader
    from heliotrope.ports.runs import RunLog, Runs
    from heliotrope.ports.serving import Serving
    from heliotrope.ports.state import Schema
    from heliotrope.service.controller import Lock
    from heliotrope.service.drift_duty import Door
    from heliotrope.service.drift_reference import ReadColumn, Reference
    from heliotrope.service.monitoring import Collected
    from heliotrope.service.monitoring_run import MonitoringRun
    from heliotrope.service.recorded_training import RecordedTraining
    from heliotrope.service.retraining import RetrainingDoor
    from heliotrope.service.rollout import RolloutService
    from heliotrope.service.training_run import TrainingRun
    from heliotrope.service.training_tools import Reports, TrainedPipeline
    from heliotrope.service.truth import Truth
    from heliotrope.spec import ModelSpec

CHECKOUT = Path(__file__).resolve().parents[1]
"""Where pipelines/compiled and predictors are: beside the package, in a checkout or an image."""


class Platform:
    """The parts of one place, each made when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def registry(self) -> "Registry":
        """MLflow."""
        from heliotrope.adapters.mlflow_registry import MlflowRegistry

        self.settings.home.mkdir(parents=True, exist_ok=True)
        return MlflowRegistry(self.settings.tracking_uri, patience=self.settings.patience)

    @cached_property
    def state(self) -> "SqlStateStore":
        """What the controller remembers."""
        from heliotrope.adapters.sql_state import SqlStateStore

        return SqlStateStore(self.settings.state_url, patience=self.settings.patience)

    @cached_property
    def schemas(self) -> "list[Schema]":
        """Databases whose tables are ours to migrate."""
        from heliotrope.adapters.mlflow_schema import MlflowSchema, is_database
        from heliotrope.adapters.sql_upgrade import StateSchema

        here = self.settings
        found: list[Schema] = [StateSchema(here.state_url, patience=here.patience)]
        mlflow = here.mlflow_backend or here.tracking_uri
        return [*found, MlflowSchema(mlflow)] if is_database(mlflow) else found

    @cached_property
    def snapshots(self) -> "SnapshotStore":
        """Delta tables."""
        from heliotrope.adapters.delta_store import DeltaSnapshotStore

        return DeltaSnapshotStore(self.settings.store)

    @cached_property
    def outcomes(self) -> "OutcomeReader":
        """Windows of the event tables."""
        from heliotrope.adapters.event_reader import DeltaOutcomeReader

        return DeltaOutcomeReader(self.settings.store)

    @property
    def answers(self) -> "AnswerFinder":
        """Single answers of the event tables."""
        from heliotrope.adapters.answer_finder import DeltaAnswerFinder

        return DeltaAnswerFinder(self.settings.store)

    @cached_property
    def reader(self) -> "SourceReader":
        """CSV, Parquet and Delta, local or S3."""
        from heliotrope.adapters.source_reader import DuckDBSourceReader

        return DuckDBSourceReader()

    @cached_property
    def runs(self) -> "Runs":
        """Pipeline runs on this machine."""
        from heliotrope.adapters.embedded.runs import EmbeddedRuns

        return EmbeddedRuns(
            self.settings.home, CHECKOUT / "pipelines" / "compiled", self.settings.environment()
        )

    @cached_property
    def serving(self) -> "Serving":
        """Versions and traffic, by the supervisor of this home."""
        from heliotrope.adapters.embedded.serving import EmbeddedServing

        return EmbeddedServing(self.settings.home)

    @cached_property
    def traffic(self) -> "ScrapeWatch":
        """Requests by version, as they count them themselves; sampled by whoever watches."""
        from heliotrope.adapters.scrape_watch import ScrapeWatch

        return ScrapeWatch(self.serving)

    @cached_property
    def lock(self) -> "Lock":
        """What the one controller of this place holds while it acts."""
        from heliotrope.adapters.embedded.lock_file import LockFile

        return LockFile(self.settings.home / CONTROLLER_LOCK_FILE)

    @property
    def shown(self) -> str:
        """Where this is, for messages."""
        return str(self.settings.home)

    def deployed_specs(self) -> "dict[str, str]":
        """Specs that are kept by the place itself, as text by model; none on one machine."""
        return {}

    @cached_property
    def rollouts(self) -> "RolloutService":
        """What moves traffic and the champion alias."""
        from heliotrope.adapters.http_replay import HttpReplayer
        from heliotrope.service.rollout import RolloutService
        from heliotrope.service.rollout_gathering import Sources
        from heliotrope.service.shadow import Shadow

        shadow = Shadow(self.state, self.outcomes, HttpReplayer())
        sources = Sources(self.serving, self.registry, self.outcomes, self.traffic, shadow)
        return RolloutService(self.state, sources)

    def truth(self, spec: "ModelSpec", engine: str = "duckdb") -> "AbstractContextManager[Truth]":
        """The truth of a spec's model; `engine` is duckdb or spark."""
        from heliotrope.adapters.truth_access import TruthEngineName, open_truth

        return open_truth(self.settings, spec, TruthEngineName(engine))

    @cached_property
    def trainer(self) -> "Trainer":
        """scikit-learn."""
        from heliotrope.adapters.sklearn_model import SklearnTrainer

        return SklearnTrainer()

    @cached_property
    def reports(self) -> "Reports":
        """HTML, Markdown and pictures."""
        from heliotrope.adapters.reports.pages import ReportPages

        return ReportPages()

    @cached_property
    def retraining(self) -> "RecordedTraining":
        """Trains a recorded version again."""
        from heliotrope.service.recorded_training import RecordedTraining

        return RecordedTraining(self)

    @property
    def model_cache(self) -> Path:
        """Downloaded versions; they never change."""
        return self.settings.home / "served"

    @property
    def references(self) -> Path:
        """Sketches of what champions learnt from; they never change."""
        return self.settings.home / "references"

    def snapshot_columns(self, ref: "SnapshotRef") -> "AbstractContextManager[ReadColumn]":
        """A snapshot column by column."""
        from heliotrope.adapters.snapshot_columns import snapshot_columns

        return snapshot_columns(self.snapshots, ref)

    def write_window(self, path: Path, collected: "Collected") -> None:
        """Keep a window's rows as a file."""
        from heliotrope.adapters.window_file import write_window

        write_window(path, collected)

    def read_window(self, path: Path, spec: "ModelSpec") -> "Collected":
        """Read them."""
        from heliotrope.adapters.window_file import read_window

        return read_window(path, spec)

    def draw_drift(
        self, spec: "ModelSpec", reference: "Reference", collected: "Collected",
        report: "DriftReport",
    ) -> "tuple[str, Mapping[str, float]]":  # fmt: skip
        """Evidently's page on a window, and its distances."""
        from heliotrope.adapters.evidently_report import draw_drift
        from heliotrope.domain.drift.window import window_of_matrix

        held = reference.held_out.features
        scores = reference.scorer.score(held)
        before = window_of_matrix(spec.features, held, scores if scores.ndim == 1 else None)
        drawn = draw_drift(spec.features, before, collected.window, report)
        return drawn.html, drawn.scores

    def source_reader(self, spec: "ModelSpec") -> "SourceReader":
        """What a spec's source says, with the labelled log where the spec wants it."""
        from heliotrope.adapters.joined_source import JoinedSource
        from heliotrope.service.faulty_spans import faulty_spans

        return JoinedSource(
            self.reader, self.settings.store, spec, lambda: faulty_spans(self.state, spec.name)
        )

    def training_data(self, ref: "SnapshotRef", spec: "ModelSpec") -> "TrainingData":
        """A snapshot to train on."""
        from heliotrope.adapters.training_data import SnapshotTrainingData

        return SnapshotTrainingData(self.snapshots, ref, spec)

    def evaluation_data(self, ref: "SnapshotRef", spec: "ModelSpec") -> "EvaluationData":
        """A snapshot to judge on."""
        from heliotrope.adapters.evaluation_data import SnapshotEvaluationData

        return SnapshotEvaluationData(self.snapshots, ref, spec)

    def load_scorer(self, onnx: Path) -> "Scorer":
        """The served model."""
        from heliotrope.adapters.onnx_model import OnnxScorer

        return OnnxScorer(onnx)

    def load_pipeline(self, folder: Path, spec: "ModelSpec") -> "TrainedPipeline":
        """The trained pipeline of a model folder."""
        from heliotrope.adapters.sklearn_model import SavedPipeline

        return SavedPipeline(folder, spec)

    def benchmark(self, onnx: Path, features: "FloatMatrix") -> Mapping[str, float]:
        """How quick the served model is on this machine."""
        from heliotrope.adapters.onnx_model import benchmark_onnx

        return benchmark_onnx(onnx, features)

    def code_identity(self) -> "CodeIdentity":
        """Which code runs."""
        from heliotrope.adapters.code_identity import code_identity

        return code_identity(CHECKOUT, os.environ)

    def run_log(self, run_key: str) -> "RunLog":
        """The log of a run."""
        return self.runs.log(run_key)


def platform(account: str = "deployer") -> Platform:
    """The platform that the environment describes.

    Args:
        account: in whose name a cluster is asked: deployer, controller or pipeline.

    Raises:
        UsageError: the environment is not what it must be.
    """
    settings = Settings.parse(os.environ, Path.cwd())
    if settings.place is Place.EMBEDDED:
        return Platform(settings)
    from heliotrope.bootstrap_cluster import ClusterPlatform

    return ClusterPlatform(settings, os.environ, account)


def _now() -> datetime:
    return clock_of(os.environ).now()


def training_step(name: str, spec: str, run_key: str) -> AbstractContextManager["TrainingRun"]:
    """A training run within one of its steps; what the pipeline's components call."""
    from heliotrope.service.training_run import TrainingRun
    from heliotrope.spec import parse_spec

    return TrainingRun(parse_spec(spec), run_key, platform("pipeline"), _now).step(name)


def monitoring_step(name: str, spec: str, run_key: str) -> AbstractContextManager["MonitoringRun"]:
    """A monitoring run within one of its steps; what that pipeline's components call."""
    from heliotrope.service.monitoring_run import MonitoringRun
    from heliotrope.spec import parse_spec

    here = platform("pipeline")
    return MonitoringRun(
        parse_spec(spec), run_key, here, _now, lambda model: _step_door(here, model, run_key)
    ).step(name)


def _step_door(here: Platform, spec: "ModelSpec", run_key: str) -> "Door":
    from heliotrope.service.waiting_door import WaitingDoor

    if here.settings.place is Place.EMBEDDED:
        return retraining_door(here, spec)
    # A pod counts no labels and starts no runs; the controller does both.
    return WaitingDoor(spec, here.state, f"run:{run_key}")


def retraining_door(here: Platform, spec: "ModelSpec") -> "RetrainingDoor":
    """The one door to retraining, as a process without the truth at hand asks it."""
    from heliotrope.service.retraining import RetrainingDoor
    from heliotrope.service.retraining_facts import RetrainingTools

    tools = RetrainingTools(state=here.state, registry=lambda: here.registry, launcher=here.runs)
    return RetrainingDoor(spec, tools)


def ask_by_schedule(spec: str) -> str:
    """Leave the newest firing of a spec's schedule for the controller; what a component calls."""
    from heliotrope.service.recurring import ask_by_schedule as ask
    from heliotrope.service.waiting_door import WaitingDoor
    from heliotrope.spec import parse_spec

    parsed = parse_spec(spec)
    return ask(parsed, WaitingDoor(parsed, platform("pipeline").state, "schedule"), _now())


def gate_candidate(spec: str, evaluation: Path, gate: Path, summary: Path) -> str:
    """The gate's verdict, as a word; the reasons go to `gate` and `summary`."""
    from heliotrope.service.training_run import gate_candidate as decide
    from heliotrope.spec import parse_spec

    parsed = parse_spec(spec)
    report = decide(parsed, evaluation, gate)
    summary.write_text(platform("pipeline").reports.gate_markdown(report, parsed.name))
    return report.verdict.value


def report_training(spec: str, run_key: str, state: str, message: str, summary: Path) -> None:
    """End a training run: its outcome goes to the run log, to MLflow and to the summary."""
    from heliotrope.domain.run_events import EventKind, RunEvent
    from heliotrope.service.run_outcome import REPORT, finish, outcome_markdown
    from heliotrope.spec import parse_spec

    began = time.perf_counter()
    here = platform("pipeline")
    model = parse_spec(spec).name
    log = here.run_log(run_key)
    outcome = finish(model, run_key, state, message, log, lambda: here.registry)
    summary.write_text(outcome_markdown(outcome))
    text, took = outcome.outcome.replace("_", " "), time.perf_counter() - began
    log.add(RunEvent(at=_now(), step=REPORT, kind=EventKind.FINISHED, text=text, seconds=took))
