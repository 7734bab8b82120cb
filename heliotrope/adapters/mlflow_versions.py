"""Reading the registry port on MLflow 3: versions, aliases, files. Only complete versions show."""

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from heliotrope.adapters.mlflow_runs import MlflowRuns, pages
from heliotrope.errors import ConflictError, NotFoundError, UsageError
from heliotrope.ports import RegisteredVersion
from heliotrope.vocabulary import (
    ONNX_FILE,
    SERVING_FILE,
    STATE_COMPLETE,
    TAG_PREFIX,
    TAG_STATE,
)

TAG_METRICS = TAG_PREFIX + "metrics"
"""The version's metrics as JSON: one tag, so that a list of versions is one request."""


class MlflowVersions(MlflowRuns):
    """The reading half of the registry."""

    def by_alias(self, model: str, alias: str) -> RegisteredVersion | None:
        """The complete version an alias points at."""
        found = (v for v in self.versions(model) if alias in v.aliases)
        return next(found, None)

    def version(self, model: str, version: str) -> RegisteredVersion:
        """One complete version; NotFoundError names those there are."""
        known = self.versions(model)
        for candidate in known:
            if candidate.version == str(version):
                return candidate
        if known:
            have = ", ".join(v.version for v in reversed(known[:20]))
            raise NotFoundError(f"{model} must have a version {version}. It has: {have}.")
        have = ", ".join(self.models()) or "none yet; train one with `heliotrope train SPEC`"
        raise NotFoundError(f"{model!r} must be a registered model. Registered: {have}.")

    def versions(self, model: str) -> list[RegisteredVersion]:
        """All complete versions, newest first."""
        return [v for v in self._all(model) if v.complete]

    def _all(self, model: str) -> list[RegisteredVersion]:
        if "'" in model:
            raise UsageError(f"A model's name must hold no quote. Got {model!r}.")

        def ask(client: Any) -> list[RegisteredVersion]:
            found = list(pages(client.search_model_versions, filter_string=f"name = '{model}'"))
            if not found:
                return []
            # A search leaves the aliases out.
            aliases: dict[str, list[str]] = {}
            for alias, number in client.get_registered_model(model).aliases.items():
                aliases.setdefault(str(number), []).append(alias)
            return [_version(v, tuple(sorted(aliases.get(str(v.version), [])))) for v in found]

        listed = self._link.call("list versions", ask)
        return sorted(listed, key=lambda v: int(v.version), reverse=True)

    def models(self) -> list[str]:
        """Names of the models with a complete version."""
        query = f"tags.`{TAG_STATE}` = '{STATE_COMPLETE}'"
        return self._link.call(
            "list models",
            lambda c: sorted({v.name for v in pages(c.search_model_versions, filter_string=query)}),
        )

    def download(self, version: RegisteredVersion, to: Path) -> Path:
        """The version's model folder on local disk: in `to`, which appears whole or not at all.

        Raises:
            NotFoundError: the files are gone from the artifact store.
            ConflictError: `to` exists and is not empty.
        """
        if to.exists() and any(to.iterdir()):
            raise ConflictError(f"{to} must be empty or not there.")
        to.parent.mkdir(parents=True, exist_ok=True)
        uri = self._location(version)

        def ask(_: Any, into: str) -> str:
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            return str(get_artifact_repository(uri, self._link.uri).download_artifacts("", into))

        with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as scratch:
            try:
                whole = Path(self._link.call("download a model", lambda c: ask(c, scratch)))
            except FileNotFoundError:
                whole = Path(scratch)
            absent = [n for n in (ONNX_FILE, SERVING_FILE) if not (whole / n).is_file()]
            if absent:
                raise NotFoundError(
                    f"{version.model} version {version.version} must have {', '.join(absent)} in "
                    f"{uri}. They are gone."
                )
            target = Path(scratch) / "whole"
            target.mkdir()
            for item in whole.iterdir():
                if item != target:
                    item.rename(target / item.name)
            try:
                target.rename(to)
            except OSError as error:
                # Another process may have put the same version there meanwhile.
                there = to / SERVING_FILE
                if not (
                    there.is_file() and there.read_bytes() == (target / SERVING_FILE).read_bytes()
                ):
                    raise ConflictError(f"{to} must be empty or not there.") from error
        return to

    def artifact_uri(self, version: RegisteredVersion) -> str:
        """Immutable URI of the model folder, one that a storage initializer takes.

        Raises:
            UsageError: the server hands files out itself, so there is no such URI.
        """
        uri = self._location(version)
        scheme = uri.partition("://")[0] if "://" in uri else uri.partition(":")[0]
        if uri.startswith("/"):
            return Path(uri).as_uri()
        if scheme in ("mlflow-artifacts", "http", "https", "models", "runs"):
            raise UsageError(
                f"{version.model} version {version.version} must lie where a storage initializer "
                "can read it (s3://, gs://, file://). Start the MLflow server with "
                "`--no-serve-artifacts --default-artifact-root s3://bucket/prefix`, and train "
                f"again. Got {uri.partition('?')[0]}."
            )
        return uri

    def _location(self, version: RegisteredVersion) -> str:
        return self._link.call(
            "find a version's files",
            lambda c: str(c.get_model_version_download_uri(version.model, version.version)),
        )


def _version(found: Any, aliases: tuple[str, ...]) -> RegisteredVersion:
    tags = dict(found.tags)
    return RegisteredVersion(
        model=found.name,
        version=str(found.version),
        run_id=found.run_id,
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        aliases=aliases,
        tags=tags,
        metrics=json.loads(tags.get(TAG_METRICS, "{}")),
        complete=tags.get(TAG_STATE) == STATE_COMPLETE,
    )
