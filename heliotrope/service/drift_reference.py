"""The champion's reference: a sketch of what it learnt from, and labelled rows it never saw."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import ValidationError

from heliotrope.domain.drift import ReferenceSketch
from heliotrope.domain.drift.sketch import sketch_reference
from heliotrope.domain.drift.window import Column
from heliotrope.domain.lineage import Lineage
from heliotrope.domain.remedy import Sample
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.training import TrainingRecord
from heliotrope.ports import EvaluationData, FloatVector, RegisteredVersion, Registry, Scorer
from heliotrope.ports.outcomes import OutcomeReader
from heliotrope.ports.state import StateStore
from heliotrope.service.serving import fetch_model
from heliotrope.service.training_tools import LoadScorer
from heliotrope.spec import Feature, ModelSpec, parse_spec
from heliotrope.vocabulary import (
    ALIAS_CHAMPION,
    ARTIFACT_LINEAGE,
    ARTIFACT_SPEC,
    ARTIFACT_TRAINING_FILE,
    ONNX_FILE,
)

ReadColumn = Callable[[Feature], Column]
MOST_HELD = 20_000
"""Labelled rows kept for diagnosis."""


class MonitoringTools(Protocol):
    """What monitoring needs of the outside; each part is made when it is first asked for."""

    @property
    def registry(self) -> Registry:
        """Model versions."""
        ...

    @property
    def outcomes(self) -> OutcomeReader:
        """Windows of predictions."""
        ...

    @property
    def state(self) -> StateStore:
        """What is remembered."""
        ...

    @property
    def model_cache(self) -> Path:
        """Downloaded versions."""
        ...

    @property
    def references(self) -> Path:
        """Folder of sketches; they never change."""
        ...

    @property
    def load_scorer(self) -> LoadScorer:
        """The served model of an ONNX file."""
        ...

    def evaluation_data(self, ref: SnapshotRef, spec: ModelSpec) -> EvaluationData:
        """A snapshot's labelled rows."""
        ...

    def snapshot_columns(self, ref: SnapshotRef) -> AbstractContextManager[ReadColumn]:
        """A snapshot column by column."""
        ...


@dataclass(frozen=True, eq=False)
class Reference:
    """One version's."""

    version: str
    spec: ModelSpec
    """As it was trained by; its features are what the version reads."""
    sketch: ReferenceSketch
    scorer: Scorer
    held_out: Sample
    """Labelled rows it was not fitted on."""


@dataclass
class ReferenceBook:
    """The champion's reference; made once a version and kept on disk by what it is made of."""

    model: str
    tools: MonitoringTools
    _known: dict[str, Reference] = field(default_factory=dict)

    def champion(self) -> Reference | None:
        """The reference of the version that is champion now; None without one.

        Raises:
            NotFoundError: its snapshot or its files are gone.
            UnavailableError: MLflow or the store does not answer.
        """
        found = self.tools.registry.by_alias(self.model, ALIAS_CHAMPION)
        if found is None:
            return None
        if found.version not in self._known:
            self._known = {found.version: self._make(found)}
        return self._known[found.version]

    def _make(self, found: RegisteredVersion) -> Reference:
        registry = self.tools.registry
        spec = parse_spec(registry.read_text(found.run_id, ARTIFACT_SPEC), "champion's spec")
        lineage = Lineage.from_json(registry.read_text(found.run_id, ARTIFACT_LINEAGE))
        record = TrainingRecord.from_json(registry.read_text(found.run_id, ARTIFACT_TRAINING_FILE))
        folder = fetch_model(registry, found, self.tools.model_cache)
        scorer = self.tools.load_scorer(folder / ONNX_FILE)
        held = self._held_out(spec, lineage.snapshot, record)
        path = self.tools.references / (
            f"{self.model}-{found.version}-{lineage.snapshot.content_hash[:16]}.json"
        )
        sketch = _read(path)
        if sketch is None:
            with self.tools.snapshot_columns(lineage.snapshot) as read:
                sketch = sketch_reference(
                    self.model,
                    found.version,
                    lineage.snapshot.content_hash,
                    spec.features,
                    read,
                    score=_shown(scorer.score(held.features)) if len(held) else None,
                    importances=record.importances,
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".tmp")
            fresh.write_text(sketch.model_dump_json())
            fresh.replace(path)
        return Reference(found.version, spec, sketch, scorer, held)

    def _held_out(self, spec: ModelSpec, ref: SnapshotRef, record: TrainingRecord) -> Sample:
        part = record.holdout
        rows = self.tools.evaluation_data(ref, spec).holdout(range(part.row_from, part.row_to))
        if rows.features is None:
            raise AssertionError("a holdout is loaded with its features")
        return Sample(rows.features, rows.labels).labelled(MOST_HELD)


def _shown(scores: FloatVector) -> FloatVector:
    """The number that the log holds of an answer: of many classes, the winner's probability."""
    return scores if scores.ndim == 1 else np.asarray(scores.max(axis=1))


def _read(path: Path) -> ReferenceSketch | None:
    try:
        return ReferenceSketch.from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        # Written by another version of this program: it is made anew.
        return None
