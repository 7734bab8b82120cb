"""Gathers all that is known of a model version, for a person or as JSON."""

from datetime import datetime
from typing import TypeVar

from heliotrope.domain.document import Document
from heliotrope.domain.evaluation import Evaluation
from heliotrope.domain.gate import GateReport
from heliotrope.domain.lineage import Lineage
from heliotrope.domain.quality import QualityReport
from heliotrope.domain.training import TrainingRecord
from heliotrope.errors import NotFoundError, UsageError
from heliotrope.ports import RegisteredVersion, Registry
from heliotrope.vocabulary import (
    ALIAS_CHAMPION,
    ARTIFACT_EVALUATION_FILE,
    ARTIFACT_GATE,
    ARTIFACT_LINEAGE,
    ARTIFACT_QUALITY_FILE,
    ARTIFACT_TRAINING_FILE,
)

Kind = TypeVar("Kind", bound=Document)


class VersionFacts(Document):
    """A version as the registry lists it."""

    model: str
    version: str
    created_at: datetime
    aliases: tuple[str, ...]
    metrics: dict[str, float]
    tags: dict[str, str]

    @classmethod
    def of(cls, version: RegisteredVersion) -> "VersionFacts":
        """The facts of a registered version."""
        return cls(
            model=version.model,
            version=version.version,
            created_at=version.created_at,
            aliases=tuple(version.aliases),
            metrics=dict(version.metrics),
            tags=dict(version.tags),
        )


class Explanation(Document):
    """Everything behind one version. What could not be read is None, and `missing` says why."""

    facts: VersionFacts
    run_id: str
    run_url: str
    artifact_uri: str | None
    lineage: Lineage | None
    gate: GateReport | None
    evaluation: Evaluation | None
    training: TrainingRecord | None
    quality: QualityReport | None
    files: tuple[str, ...]
    """Artifacts of the training run."""
    missing: tuple[str, ...]


def choose(registry: Registry, model: str, wanted: str | None) -> RegisteredVersion:
    """The version a person means: a number, an alias, or when left out the champion, else newest.

    Raises:
        NotFoundError: it does not exist; the message names what does.
    """
    if wanted is not None and wanted.isdecimal():
        return registry.version(model, wanted)
    found = registry.by_alias(model, wanted or ALIAS_CHAMPION)
    if found is not None:
        return found
    known = registry.versions(model)
    if known and wanted is None:
        return known[0]
    if not known:
        # Asking for any version lets the registry say which models there are.
        return registry.version(model, wanted or "1")
    aliases = sorted({alias for version in known for alias in version.aliases})
    raise NotFoundError(
        f"{model} must have an alias {wanted!r}. It has: {', '.join(aliases) or 'none'}; "
        f"versions {', '.join(v.version for v in reversed(known))}."
    )


def explain(registry: Registry, model: str, wanted: str | None) -> Explanation:
    """All that is known of a version.

    Raises:
        NotFoundError: no such model, version or alias.
        UnavailableError: MLflow does not answer.
    """
    version = choose(registry, model, wanted)
    missing: list[str] = []

    def read(kind: type[Kind], path: str) -> Kind | None:
        try:
            return kind.from_json(registry.read_text(version.run_id, path))
        except NotFoundError as error:
            missing.append(str(error))
        except ValueError as error:
            missing.append(f"{path} was not written by this release: {str(error).splitlines()[0]}")
        return None

    try:
        uri = registry.artifact_uri(version)
    except UsageError as error:
        uri = None
        missing.append(str(error))
    return Explanation(
        facts=VersionFacts.of(version),
        run_id=version.run_id,
        run_url=registry.run_url(version.run_id),
        artifact_uri=uri,
        lineage=read(Lineage, ARTIFACT_LINEAGE),
        gate=read(GateReport, ARTIFACT_GATE),
        evaluation=read(Evaluation, ARTIFACT_EVALUATION_FILE),
        training=read(TrainingRecord, ARTIFACT_TRAINING_FILE),
        quality=read(QualityReport, ARTIFACT_QUALITY_FILE),
        files=tuple(_files(registry, version.run_id)),
        missing=tuple(missing),
    )


def _files(registry: Registry, run_id: str) -> list[str]:
    found: list[str] = []
    for path in registry.list_files(run_id):
        inside = registry.list_files(run_id, path)
        found += inside or [path]
    return found
