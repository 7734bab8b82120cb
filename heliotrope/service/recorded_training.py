"""Training again what was trained before: the `Retraining` that a reproduction needs."""

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.training import TrainingRecord
from heliotrope.ports import FloatVector
from heliotrope.service.training import train
from heliotrope.service.training_tools import TrainingTools
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import ONNX_FILE, TRAINING_FILE


@dataclass(frozen=True)
class RecordedTraining:
    """Trains and scores with the same tools as the pipeline's steps."""

    tools: TrainingTools

    def train(
        self, spec: ModelSpec, snapshot: SnapshotRef, folder: Path, changed_at: datetime | None
    ) -> None:
        """Write a model folder from a snapshot, as a run that knew of such a change did."""
        data = self.tools.training_data(snapshot, spec)
        train(spec, data, self.tools.trainer, folder, time.monotonic, changed_at)

    def scores(self, spec: ModelSpec, snapshot: SnapshotRef, folder: Path) -> FloatVector:
        """The scores a model folder's ONNX graph gives the snapshot's holdout."""
        record = TrainingRecord.from_json((folder / TRAINING_FILE).read_bytes())
        holdout = range(record.holdout.row_from, record.holdout.row_to)
        rows = self.tools.training_data(snapshot, spec).load(holdout)
        return self.tools.load_scorer(folder / ONNX_FILE).score(rows.features)
