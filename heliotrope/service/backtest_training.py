"""Training within a backtest: the platform's own steps on rows that were final by then."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from heliotrope.domain.backtest.table import span
from heliotrope.domain.gate import judge
from heliotrope.domain.lineage import CodeIdentity
from heliotrope.domain.quality import QualityReport
from heliotrope.domain.run_events import RunOutcome
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.training import TrainingRecord
from heliotrope.errors import DataFault, HeliotropeError, UsageError
from heliotrope.ports import EvaluationData, Registry, Trainer, TrainingData
from heliotrope.service.champion import load_champion
from heliotrope.service.comparison import Holdout, Rows
from heliotrope.service.evaluation import evaluate
from heliotrope.service.registration import Candidate, register_candidate
from heliotrope.service.training import train
from heliotrope.service.training_tools import LoadScorer
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import ONNX_FILE, TRAINING_FILE, Outcome, Verdict

_CODE = CodeIdentity(
    commit=None, dirty=None, source_hash="backtest", lock_hash=None, python="", packages={}
)


class Snapshot(TrainingData, EvaluationData, Protocol):
    """Rows to train and to judge on."""


Spans = Sequence[tuple[datetime, datetime]]


class TrainingPlace(Protocol):
    """Where a backtest trains."""

    @property
    def registry(self) -> Registry:
        """Versions."""
        ...

    @property
    def model_cache(self) -> Path:
        """Fetched versions."""
        ...

    @property
    def load_scorer(self) -> LoadScorer:
        """The served model of an ONNX file."""
        ...

    def final_rows(self, now: datetime) -> SnapshotRef:
        """The rows that are final at a time, faulty spans left out."""
        ...

    def rows_of(self, ref: SnapshotRef, spec: ModelSpec) -> Snapshot:
        """Them."""
        ...


@dataclass
class Shelf:
    """Trained models by what they were trained on, so that policies that agree train once.

    Args:
        trainer: fits them.
        folder: where model folders are kept.
    """

    trainer: Trainer
    folder: Path
    trainings: int = 0
    """How many were not on the shelf."""
    _known: dict[str, Path] = field(default_factory=dict)

    def trained(
        self, spec: ModelSpec, ref: SnapshotRef, data: TrainingData, changed_at: datetime | None
    ) -> tuple[Path, TrainingRecord]:
        """The model folder of a training and its record.

        Raises:
            DataFault, UsageError, HeliotropeError: as `service.training.train`.
        """
        key = _key(spec, ref, changed_at)
        folder = self._known.get(key)
        if folder is None:
            folder = self.folder / key
            train(spec, data, self.trainer, folder, time.monotonic, changed_at)
            self._known[key] = folder
            self.trainings += 1
        return folder, TrainingRecord.from_json((folder / TRAINING_FILE).read_bytes())


def _key(spec: ModelSpec, ref: SnapshotRef, changed_at: datetime | None) -> str:
    parts = {
        "rows": ref.content_hash,
        "changed": changed_at.isoformat() if changed_at else None,
        "minimum": spec.gates.minimum_rows,
        "memory": [spec.retraining.memory_rows, spec.retraining.recent_weight],
        "model": json.loads(
            spec.model_dump_json(exclude={"monitoring", "retraining", "rollout", "gates", "source"})
        ),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class BacktestTraining:
    """One policy's training runs.

    Args:
        spec: of the policy.
        place: where it trains.
        shelf: shared by policies.
        now: the simulated clock.
    """

    spec: ModelSpec
    place: TrainingPlace
    shelf: Shelf
    now: Callable[[], datetime]

    def run(self, run_key: str, cause: str, changed_at: datetime | None) -> RunOutcome:
        """Snapshot, train, evaluate, gate, register; as `service.training_run`, in one go."""
        try:
            return self._run(run_key, cause, changed_at)
        except DataFault as error:
            return self._ended(run_key, Outcome.DATA_FAULT, str(error))
        except UsageError:
            # The spec or its trainer is wrong: no other moment would mend it.
            raise
        except HeliotropeError as error:
            return self._ended(run_key, Outcome.FAILED, str(error))

    def _run(self, run_key: str, cause: str, changed_at: datetime | None) -> RunOutcome:
        spec, place, now = self.spec, self.place, self.now()
        ref = place.final_rows(now)
        if ref.rows < spec.validation.minimum_rows:
            raise DataFault(
                f"there must be {spec.validation.minimum_rows:,} final rows to train on "
                f"(validation.minimum_rows); a row is final once its label has come and its age is "
                f"label.delay, {span(spec.label.delay)}. Got {ref.rows:,} at {now:%Y-%m-%d %H:%M}."
            )
        data = place.rows_of(ref, spec)
        folder, record = self.shelf.trained(spec, ref, data, changed_at)
        rows = data.holdout(range(record.holdout.row_from, record.holdout.row_to))
        before = data.history(range(record.holdout.row_from))
        if rows.features is None:
            raise AssertionError("a holdout is loaded with its features")
        champion = load_champion(
            place.registry, spec.name, ref, data, rows, place.model_cache, place.load_scorer
        )
        evaluation = evaluate(
            spec,
            place.load_scorer(folder / ONNX_FILE),
            Holdout(rows.labels, rows.times, rows.features),
            Rows(before.labels, before.times),
            seed=spec.trainer.seed,
            champion=champion,
        )
        gate = judge(spec, evaluation)
        if gate.verdict is not Verdict.PASS:
            worst = "; ".join(r.text for r in gate.reasons if r.verdict is gate.verdict)
            return self._ended(run_key, Outcome.NOT_ACCEPTED, f"gate {gate.verdict}: {worst}")
        run_id = place.registry.start_run(spec.name, run_key, {})
        registered = register_candidate(
            place.registry,
            Candidate(
                spec=spec, folder=folder, run_key=run_key, run_id=run_id, cause=cause, snapshot=ref,
                quality=QualityReport(
                    model=spec.name, rows=ref.rows, usable_rows=ref.rows, columns=(), findings=()
                ),
                record=record, evaluation=evaluation, gate=gate, code=_CODE, example={},
                extra_metrics={},
            ),
            now,
        )  # fmt: skip
        memory = f"; memory: {record.memory}" if record.memory else ""
        reason = f"{spec.metrics.primary} {evaluation.metrics[spec.metrics.primary]}{memory}"
        ended = self._ended(run_key, Outcome.REGISTERED, reason)
        return ended.model_copy(update={"version": registered.version, "verdict": gate.verdict})

    def _ended(self, run_key: str, outcome: Outcome, reason: str) -> RunOutcome:
        return RunOutcome(model=self.spec.name, run_key=run_key, outcome=outcome, reason=reason)
