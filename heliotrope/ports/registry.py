"""Runs and model versions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from heliotrope.spec import ModelSpec


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
