"""What the services need of the outside, as Protocols. Adapters provide it; `bootstrap` chooses.

Only what two adapters could differ in is a port. A fake with behaviour is an adapter like any
other; there are no mocks of these.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from heliotrope.domain.labels import LabelContract, LabelUpload
from heliotrope.domain.run_events import RunEvent, RunOutcome
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.spool_batch import Loss, SpoolBatch
from heliotrope.domain.spool_format import SegmentHeader
from heliotrope.spec import ModelSpec, Source

FloatMatrix = npt.NDArray[np.float32]
FloatVector = npt.NDArray[np.float64]


class SourceReader(Protocol):
    """Reads the training data a person points at."""

    def open(self, source: Source) -> AbstractContextManager[Any]:
        """The source as an Ibis table expression, read lazily and out of core.

        Raises:
            NotFoundError: nothing is there.
            DataFault: it is empty, or not in the format it claims (with line and column for CSV).
            UnavailableError: the object store does not answer or refuses the credentials.
        """
        ...

    def locate(self, source: Source, row: int) -> str:
        """Where the row at 0-based position `row` is, as a person finds it: `line 17`."""
        ...


class SnapshotStore(Protocol):
    """Keeps immutable snapshots, one Delta table a model."""

    def write(
        self, model: str, batches: Iterator[Any], schema: Any, about: SnapshotRef
    ) -> SnapshotRef:
        """Replace the table's content by Arrow record batches in one transaction.

        `about` carries what is known before writing; the answer has table, version, rows and
        content hash filled in. Identical content to the newest version writes nothing and
        answers with that version. Interrupted, it leaves no version.
        """
        ...

    def open(self, ref: SnapshotRef) -> AbstractContextManager[Any]:
        """One version as an Ibis table expression (holds `_row`); NotFoundError if vacuumed."""
        ...

    def latest(self, model: str, before: int | None = None) -> SnapshotRef | None:
        """The newest snapshot, or the newest whose version is below `before`."""
        ...


class Scorer(Protocol):
    """A model that answers: float32 matrix in, scores out."""

    def score(self, features: FloatMatrix) -> FloatVector:
        """[rows] for binary and regression, [rows, classes] for multiclass."""
        ...


@dataclass(frozen=True)
class LabelledRows:
    """Rows as an estimator takes them."""

    features: FloatMatrix
    """[rows, features] in the spec's order: booleans 0 or 1, categories their position, missing
    values NaN."""
    labels: npt.NDArray[Any]
    """[rows] position in `spec.classes` (an integer dtype), or the value for regression."""


class TrainingData(Protocol):
    """One snapshot as a training needs it; a part is loaded only when it is asked for."""

    @property
    def rows(self) -> int:
        """Rows of the snapshot; `_row` runs from 0 to rows - 1."""
        ...

    def event_time(self) -> npt.NDArray[Any] | None:
        """[rows] datetime64 (UTC) in `_row` order, not falling; None without an event time."""
        ...

    def class_counts(self, rows: range) -> Mapping[str, int]:
        """Usable rows of each class of the spec within a range of `_row`; empty for regression."""
        ...

    def load(self, rows: range) -> LabelledRows:
        """The usable rows within a range of `_row`, in that order."""
        ...


@dataclass(frozen=True)
class JudgedRows:
    """Rows a model is judged on, or compared with, in the order of time."""

    labels: npt.NDArray[Any]
    """[rows] as `LabelledRows.labels`."""
    times: npt.NDArray[np.datetime64] | None
    """[rows] event times (UTC); None without an event time."""
    row_ids: npt.NDArray[np.int64]
    """[rows] their `_row`, rising."""
    features: FloatMatrix | None
    """[rows, features]; None where only labels were asked for."""


class EvaluationData(Protocol):
    """One snapshot as an evaluation needs it."""

    def holdout(self, rows: range) -> JudgedRows:
        """The usable rows within a range of `_row`, with their features."""
        ...

    def history(self, rows: range) -> JudgedRows:
        """The usable rows within a range of `_row`, without features."""
        ...

    def features_of(self, spec: ModelSpec, judged: JudgedRows) -> FloatMatrix:
        """The same rows in another spec's columns.

        Raises:
            DataFault: the snapshot lacks one of them.
        """
        ...

    def raw(self, judged: JudgedRows, most: int) -> Sequence[Mapping[str, Any]]:
        """The same rows as people would send them, at most so many, evenly spaced."""
        ...


class FittedModel(Protocol):
    """What a trainer answers with: a model that scores and can be written."""

    @property
    def estimator(self) -> str:
        """Dotted name."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it was built with."""
        ...

    @property
    def curve(self) -> Mapping[str, tuple[float, ...]]:
        """Loss by iteration."""
        ...

    @property
    def calibration(self) -> str | None:
        """How probabilities were calibrated; None where they were not."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the fitting."""
        ...

    def score(self, features: FloatMatrix) -> FloatVector:
        """As `Scorer.score`, in the trained model's own precision."""
        ...

    def score_raw(self, rows: Sequence[Mapping[str, Any]]) -> FloatVector:
        """The same from raw rows, through the fitted pipeline's own preprocessing."""
        ...

    def save(self, folder: Path) -> None:
        """Write SKOPS_FILE and ONNX_FILE; the same model gives the same bytes."""
        ...


class Trainer(Protocol):
    """Fits a spec's estimator."""

    def fit(
        self, spec: ModelSpec, train: LabelledRows, calibration: LabelledRows | None
    ) -> FittedModel:
        """Fit on `train`; stop early and calibrate on `calibration`, later in time.

        Raises:
            UsageError: the spec's trainer or its parameters are wrong.
            HeliotropeError: the estimator raised, or answers with NaN.
        """
        ...


@dataclass(frozen=True)
class RegisteredVersion:
    """A model version as the registry knows it."""

    model: str
    version: str
    run_id: str
    created_at: datetime
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    complete: bool
    """False while a registration is under way or after one was killed."""


class Registry(Protocol):
    """Runs and model versions (MLflow)."""

    def start_run(self, model: str, run_key: str, tags: Mapping[str, str]) -> str:
        """Id of the run of this key, created if it is not there. Idempotent."""
        ...

    def find_run(self, run_key: str) -> str | None:
        """Id of the run of this key."""
        ...

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add to a run; non-finite metrics are left out."""
        ...

    def log_series(self, run_id: str, name: str, values: Sequence[float]) -> None:
        """A metric by step (a training curve)."""
        ...

    def log_files(self, run_id: str, folder: Path, to: str) -> None:
        """Upload a folder's files under an artifact path."""
        ...

    def log_text(self, run_id: str, text: str, to: str) -> None:
        """Upload one text file."""
        ...

    def finish_run(self, run_id: str, status: str) -> None:
        """End a run: FINISHED, FAILED or KILLED."""
        ...

    def register(
        self,
        spec: ModelSpec,
        run_id: str,
        folder: Path,
        tags: Mapping[str, str],
        metrics: Mapping[str, float],
        example: Mapping[str, Any],
        description: str = "",
    ) -> RegisteredVersion:
        """Register a model folder as a new version, without an alias.

        All or nothing: the version is complete, or it is gone again. `folder` holds the files of
        `vocabulary` (ONNX_FILE, SERVING_FILE, SKOPS_FILE); `example` is one row of features.
        """
        ...

    def discard_incomplete(self, model: str) -> list[str]:
        """Delete the versions a killed registration left behind; answers which."""
        ...

    def settle(self, model: str, below: str, timeout: float = 60.0) -> bool:
        """Wait until no living process registers a version with a lower number; False if one
        still does."""
        ...

    def tag_version(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Add tags to a version."""
        ...

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point an alias at a version."""
        ...

    def by_alias(self, model: str, alias: str) -> RegisteredVersion | None:
        """The version an alias points at."""
        ...

    def version(self, model: str, version: str) -> RegisteredVersion:
        """One version; NotFoundError names those there are."""
        ...

    def versions(self, model: str) -> list[RegisteredVersion]:
        """All complete versions, newest first."""
        ...

    def models(self) -> list[str]:
        """Names of all registered models."""
        ...

    def download(self, version: RegisteredVersion, to: Path) -> Path:
        """The version's model folder on local disk."""
        ...

    def list_files(self, run_id: str, folder: str = "") -> list[str]:
        """Paths of a run's artifacts in one folder, folders among them."""
        ...

    def read_text(self, run_id: str, path: str) -> str:
        """One text artifact of a run; NotFoundError if it is not there."""
        ...

    def artifact_uri(self, version: RegisteredVersion) -> str:
        """Immutable URI of the model folder, one a storage initializer takes."""
        ...

    def run_url(self, run_id: str) -> str:
        """Where a person sees the run."""
        ...


class RunLog(Protocol):
    """What one run's steps say of themselves."""

    folder: Path

    def add(self, event: RunEvent) -> None:
        """Append an event."""
        ...

    def events(self) -> list[RunEvent]:
        """All events so far, oldest first."""
        ...

    def set_outcome(self, outcome: RunOutcome) -> None:
        """Write how the run ended."""
        ...

    def outcome(self) -> RunOutcome | None:
        """How it ended, once it has."""
        ...

    def keep(self, name: str, text: str) -> None:
        """Keep a document of the run, for whoever watches it here."""
        ...

    def kept(self, name: str) -> str | None:
        """A document that a step kept; None where the run did not come so far."""
        ...


class PipelineRuns(Protocol):
    """Runs compiled pipelines."""

    def log(self, run_key: str) -> RunLog:
        """The log of a run."""
        ...

    def run(
        self,
        pipeline: str,
        arguments: Mapping[str, str],
        run_key: str,
        *,
        python_path: Path | None = None,
        on_event: Callable[[RunEvent], None] = ...,
    ) -> int:
        """Run a compiled pipeline to its end; answers 0 when it succeeded."""
        ...


class EventStore(Protocol):
    """The event tables that collectors append to (`domain.events`), exactly once for readers.

    Every method may raise UnavailableError: the store does not answer, and whether it took what it
    was given is not known. A table is for one thread at a time.
    """

    def models(self) -> list[str]:
        """Models that have events."""
        ...

    def contract(self, model: str) -> LabelContract | None:
        """What a model's predictors said of its labels."""
        ...

    def spool_positions(
        self, model: str, spools: Sequence[SegmentHeader], fresh: bool
    ) -> dict[str, int]:
        """The highest sequence number held of each spool, 0 for none; `fresh` is up to date."""
        ...

    def append_predictions(
        self,
        model: str,
        batches: Sequence[SpoolBatch],
        positions: Mapping[str, int],
        received_at_us: int,
    ) -> bool:
        """Append in one commit; False, with nothing written, when a spool moved in between."""
        ...

    def append_losses(self, model: str, losses: Sequence[Loss], noted_at_us: int) -> bool:
        """Note gaps that were not noted before; False when somebody else just noted some."""
        ...

    def upload_known(self, model: str, transaction: str) -> bool:
        """Whether an upload of labels was written before, as far as has been read."""
        ...

    def append_labels(
        self, model: str, uploads: Sequence[LabelUpload], received_at_us: Sequence[int]
    ) -> bool:
        """Append in one commit; False, with nothing written, when another wrote one of them."""
        ...

    def refresh_labels(self, model: str) -> None:
        """Read what others wrote to a model's labels."""
        ...
