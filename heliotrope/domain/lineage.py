"""Where a model version comes from: all that is needed to build it again or answer an auditor."""

from datetime import datetime
from typing import Any

from heliotrope.domain.document import Document
from heliotrope.domain.snapshot import SnapshotRef


class CodeIdentity(Document):
    """Which code ran."""

    commit: str | None
    """Git commit, or what the image was built from; none when neither is known."""
    dirty: bool | None
    """Whether the checkout had uncommitted changes."""
    source_hash: str
    """sha256 over the package's own source files: true even for a dirty tree or an image."""
    lock_hash: str | None
    """sha256 of the dependency lock file."""
    image: str | None = None
    """Image with digest, on a cluster."""
    python: str
    """Version of Python."""
    packages: dict[str, str]
    """Versions of the libraries that decide the result."""


class Lineage(Document):
    """All of a version's origins. Stored in MLflow beside the model, never edited."""

    model: str
    run_key: str
    """Name of the pipeline run."""
    mlflow_run_id: str
    snapshot: SnapshotRef
    code: CodeIdentity
    spec: str
    """The whole spec as canonical YAML."""
    spec_hash: str
    estimator: str
    parameters: dict[str, Any]
    seed: int
    champion: str | None
    """Version that it was compared with."""
    cause: str
    """Why the run was started: `person`, `schedule`, `drift`, ..."""
    trained_at: datetime
    model_hash: str
    """sha256 of the skops file."""
    onnx_hash: str
    """sha256 of the ONNX file."""
