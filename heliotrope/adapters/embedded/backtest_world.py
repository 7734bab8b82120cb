"""What one policy of a backtest lives in: the platform's ports over a history, by a held clock."""

import hashlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from heliotrope.adapters.duckdb_engine import DuckDBEngine
from heliotrope.adapters.embedded.history_data import HistoryData, HistorySnapshots
from heliotrope.adapters.embedded.history_log import ROLES, HistoryLog
from heliotrope.adapters.embedded.history_outcomes import HistoryOutcomes
from heliotrope.adapters.embedded.history_serving import HistoryServing
from heliotrope.adapters.embedded.history_truth import HistoryTruth, WholeStatistics
from heliotrope.adapters.embedded.instant_runs import InstantRuns
from heliotrope.adapters.embedded.memory_registry import MemoryRegistry
from heliotrope.adapters.embedded.memory_state import MemoryState
from heliotrope.clock import HeldClock
from heliotrope.domain.backtest.history import History, VersionAnswers, answers_of, stamp
from heliotrope.domain.backtest.judging import Answered
from heliotrope.domain.drift.window import Column
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.truth.documents import WindowTruth
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.service.backtest_training import BacktestTraining, Shelf
from heliotrope.service.faulty_spans import faulty_spans
from heliotrope.service.rollout import RolloutService
from heliotrope.service.rollout_gathering import Gatherer, Sources
from heliotrope.service.shadow import Shadow
from heliotrope.service.training_tools import LoadScorer
from heliotrope.spec import Feature, ModelSpec
from heliotrope.vocabulary import ONNX_FILE, Role

_ALL = 10**9
"""Requests that a shadow may ask again within a tick: here they take no time."""


@dataclass
class Shared:
    """What policies on one history have in common."""

    history: History
    shelf: Shelf
    load_scorer: LoadScorer
    engine: DuckDBEngine
    said: dict[str, VersionAnswers] = field(default_factory=dict)
    """All answers of a model, by the hash of what is served."""
    _statistics: dict[str, WholeStatistics] = field(default_factory=dict)

    def statistics(self, plan: TruthPlan) -> WholeStatistics:
        """Of a plan."""
        if plan.fingerprint not in self._statistics:
            self._statistics[plan.fingerprint] = WholeStatistics(plan, self.engine)
        return self._statistics[plan.fingerprint]

    def answers(self, spec: ModelSpec, onnx: Path) -> VersionAnswers:
        """What a model says to every row; computed once, each row by itself."""
        key = f"{spec.threshold}/{hashlib.sha256(onnx.read_bytes()).hexdigest()}"
        if key not in self.said:
            scores = self.load_scorer(onnx).score(self.history.matrix)
            self.said[key] = answers_of(spec, np.asarray(scores, np.float64))
        return self.said[key]


class BacktestWorld:
    """One policy's (`service.backtest.World`, `service.drift_reference.MonitoringTools`).

    Args:
        spec: of the policy.
        shared: with other policies.
        start: what its clock says first.
        folder: for its state and its versions; empty.
    """

    def __init__(self, spec: ModelSpec, shared: Shared, start: datetime, folder: Path) -> None:
        self.spec, self.shared, self.history = spec, shared, shared.history
        self.clock = HeldClock(start)
        self.model_cache, self.references = folder / "served", folder / "references"
        self.registry = MemoryRegistry(folder / "versions", self.clock.now)
        self.state = MemoryState()
        self.snapshots = HistorySnapshots(self.history)
        self._versions: dict[str, VersionAnswers] = {}
        self.log = HistoryLog(self.history, self._answer, self.clock.now)
        self.outcomes = HistoryOutcomes(self.log)
        self.serving = HistoryServing(self.log)
        plan = replace(TruthPlan.of(spec), axes=())
        self._truth = HistoryTruth(plan, self.log, shared.statistics(plan))
        training = BacktestTraining(spec, self, shared.shelf, self.clock.now)
        self.runs = InstantRuns(training.run)
        pace = self.clock.monotonic
        shadow = Shadow(
            self.state, self.outcomes, self.serving, seconds=math.inf, batch=_ALL, monotonic=pace
        )
        sources = Sources(self.serving, self.registry, self.outcomes, self.serving, shadow)
        self.rollouts = RolloutService(self.state, sources, Gatherer(sources, monotonic=pace))

    @property
    def load_scorer(self) -> LoadScorer:
        """The served model of an ONNX file."""
        return self.shared.load_scorer

    @property
    def shelf(self) -> Shelf:
        """Trained models, shared by policies."""
        return self.shared.shelf

    def says(self, onnx: Path) -> VersionAnswers:
        """What a model says to every row."""
        return self.shared.answers(self.spec, onnx)

    def first_says(self) -> VersionAnswers:
        """What the first model says to every row."""
        return self._answer("1")

    def windows(self, now: datetime) -> list[WindowTruth]:
        """The truth as of the clock."""
        return self._truth.windows(now)

    def play(self, since: datetime, until: datetime) -> int:
        """Put plans in force and let the users of a time come; answers how many came."""
        self.serving.carry_out()
        return self.serving.play(since, until)

    def final_rows(self, now: datetime) -> SnapshotRef:
        """The rows that a training may see: final by now, and not found broken."""
        at = self.history.at
        known = self.history.known(now - self.spec.label.delay, now)
        past = int(np.searchsorted(at, stamp(now), "right"))
        for start, end in faulty_spans(self.state, self.spec.name):
            known &= (at < stamp(start)) | (at >= stamp(end))
        chosen = np.flatnonzero(known)
        return self.snapshots.take(self.spec, chosen, now, past - len(chosen))

    def rows_of(self, ref: SnapshotRef, spec: ModelSpec) -> HistoryData:
        """The rows of a snapshot."""
        return self.snapshots.open(ref, spec)

    def evaluation_data(self, ref: SnapshotRef, spec: ModelSpec) -> HistoryData:
        """The same, as monitoring asks for them."""
        return self.snapshots.open(ref, spec)

    def snapshot_columns(
        self, ref: SnapshotRef
    ) -> AbstractContextManager[Callable[[Feature], Column]]:
        """A snapshot column by column."""
        return self.snapshots.columns(ref)

    def answered(self) -> Answered:
        """What users were answered so far."""
        found = self.log.all()
        live = found.where(np.asarray(found.role != ROLES.index(Role.SHADOW)))
        order = np.argsort(live.row, kind="stable")
        rows, versions = live.row[order], live.version[order]
        called, score = np.zeros(len(rows), np.int32), np.full(len(rows), np.nan)
        scores = None
        for number in np.unique(versions):
            says, mine = self._answer(str(number)), versions == number
            called[mine], score[mine] = says.called[rows[mine]], says.score[rows[mine]]
            if says.scores is not None:
                if scores is None:
                    scores = np.full((len(rows), says.scores.shape[1]), np.nan)
                scores[mine] = says.scores[rows[mine]]
        return Answered(rows, VersionAnswers(called, score, scores))

    def _answer(self, version: str) -> VersionAnswers:
        if version not in self._versions:
            folder = self.registry.folder / self.spec.name / version
            self._versions[version] = self.shared.answers(self.spec, folder / ONNX_FILE)
        return self._versions[version]
