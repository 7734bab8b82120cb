"""Trains a registered version again from what its lineage recorded, and compares the bits."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np

from heliotrope.domain.document import Document
from heliotrope.domain.lineage import CodeIdentity, Lineage
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.training import TrainingRecord
from heliotrope.errors import HeliotropeError, UsageError
from heliotrope.ports import FloatVector, RegisteredVersion, Registry
from heliotrope.service.registration import file_hash
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.vocabulary import (
    ARTIFACT_LINEAGE,
    ARTIFACT_TRAINING_FILE,
    ONNX_FILE,
    SKOPS_FILE,
)


class Retraining(Protocol):
    """What trains again and scores; `bootstrap` wires it."""

    def train(
        self, spec: ModelSpec, snapshot: SnapshotRef, folder: Path, changed_at: datetime | None
    ) -> None:
        """Write a model folder from a snapshot, as a run that knew of such a change did."""
        ...

    def scores(self, spec: ModelSpec, snapshot: SnapshotRef, folder: Path) -> FloatVector:
        """The scores a model folder's ONNX graph gives the snapshot's holdout."""
        ...


class Sameness(StrEnum):
    """How much of a version came back."""

    SAME_BITS = "same_bits"
    """Both model files are the same bit for bit."""
    SAME_SCORES = "same_scores"
    """The files differ; every score on the holdout is the same number."""
    DIFFERENT = "different"
    """It answers differently."""


class FileComparison(Document):
    """One model file, recorded and retrained."""

    name: str
    recorded: str
    """sha256 that the lineage holds."""
    retrained: str
    """sha256 now."""

    @property
    def same(self) -> bool:
        """Whether the bits are the same."""
        return self.recorded == self.retrained


class Change(Document):
    """Something that is not as it was when the version was trained."""

    what: str
    then: str
    now: str


class Reproduction(Document):
    """The outcome of a reproduction."""

    model: str
    version: str
    sameness: Sameness
    snapshot_version: int
    seed: int
    files: tuple[FileComparison, ...]
    changes: tuple[Change, ...]
    """Differences of code and environment; empty when it ran as it was trained."""
    rows: int | None = None
    """Holdout rows whose scores were compared, where the bits differ."""
    largest_score_difference: float | None = None
    """Over those rows."""


def reproduce(
    registry: Registry,
    retraining: Retraining,
    version: RegisteredVersion,
    code: CodeIdentity,
    workdir: Path,
) -> Reproduction:
    """Train again from the recorded snapshot, spec and seed, and say what came back.

    Args:
        registry: holds the version.
        retraining: trains and scores.
        version: which.
        code: what runs now.
        workdir: an empty folder for both models.

    Raises:
        NotFoundError: the lineage, the snapshot or the registered files are gone.
        UsageError: the recorded spec is not one this release reads.
    """
    lineage = read_lineage(registry, version)
    spec = parse_spec(lineage.spec, source=f"the spec of {version.model} {version.version}")
    again = workdir / "retrained"
    record = TrainingRecord.from_json(registry.read_text(version.run_id, ARTIFACT_TRAINING_FILE))
    retraining.train(spec, lineage.snapshot, again, record.changed_at)
    files = tuple(
        FileComparison(name=name, recorded=recorded, retrained=file_hash(again / name))
        for name, recorded in ((SKOPS_FILE, lineage.model_hash), (ONNX_FILE, lineage.onnx_hash))
    )
    changes = compare_code(lineage.code, code)
    rows: int | None = None
    largest: float | None = None
    if all(file.same for file in files):
        sameness = Sameness.SAME_BITS
    else:
        first = registry.download(version, workdir / "registered")
        pair = [retraining.scores(spec, lineage.snapshot, folder) for folder in (first, again)]
        rows, largest = len(pair[0]), _largest_difference(*pair)
        sameness = Sameness.SAME_SCORES if largest == 0 else Sameness.DIFFERENT
    return Reproduction(
        model=version.model,
        version=version.version,
        sameness=sameness,
        snapshot_version=lineage.snapshot.version,
        seed=lineage.seed,
        files=files,
        changes=changes,
        rows=rows,
        largest_score_difference=largest,
    )


def read_lineage(registry: Registry, version: RegisteredVersion) -> Lineage:
    """The lineage of a version; UsageError where this release cannot read it."""
    text = registry.read_text(version.run_id, ARTIFACT_LINEAGE)
    try:
        return Lineage.from_json(text)
    except ValueError as error:
        raise UsageError(
            f"{ARTIFACT_LINEAGE} of {version.model} {version.version} must be one that this "
            f"release reads. Got: {str(error).splitlines()[0]}"
        ) from error


def compare_code(then: CodeIdentity, now: CodeIdentity) -> tuple[Change, ...]:
    """What of code and environment differs, the causes of different bits first."""
    pairs: dict[str, tuple[str | None, str | None]] = {
        "sources": (then.source_hash, now.source_hash),
        "python": (then.python, now.python),
        **_packages(then.packages, now.packages),
        "lock file": (then.lock_hash, now.lock_hash),
        "commit": (_commit(then), _commit(now)),
        "image": (then.image, now.image),
    }
    return tuple(
        Change(what=what, then=before or "unknown", now=after or "unknown")
        for what, (before, after) in pairs.items()
        if before != after
    )


def _packages(
    then: Mapping[str, str], now: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    return {name: (then.get(name), now.get(name)) for name in sorted({*then, *now})}


def _commit(code: CodeIdentity) -> str | None:
    if code.commit is None:
        return None
    return code.commit + (" with uncommitted changes" if code.dirty else "")


def _largest_difference(first: FloatVector, second: FloatVector) -> float:
    if first.shape != second.shape:
        raise HeliotropeError(
            f"Both models must score the same rows. Got shapes {first.shape} and {second.shape}."
        )
    return float(np.max(np.abs(first - second), initial=0.0))
