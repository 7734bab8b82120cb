"""Registers an accepted candidate with all that is known of it, and gives it its first alias."""

import hashlib
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from heliotrope.domain.evaluation import Evaluation
from heliotrope.domain.gate import GateReport
from heliotrope.domain.lineage import CodeIdentity, Lineage
from heliotrope.domain.quality import QualityReport
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.training import TrainingRecord
from heliotrope.ports import RegisteredVersion, Registry
from heliotrope.spec import ModelSpec
from heliotrope.spec.loading import dump_spec
from heliotrope.vocabulary import (
    ALIAS_CANDIDATE,
    ALIAS_CHAMPION,
    ARTIFACT_EVALUATION_FILE,
    ARTIFACT_GATE,
    ARTIFACT_LINEAGE,
    ARTIFACT_QUALITY_FILE,
    ARTIFACT_SPEC,
    ARTIFACT_TRAINING_FILE,
    ONNX_FILE,
    SKOPS_FILE,
    TAG_ALIAS_NOTE,
    TAG_CAUSE,
    TAG_COMMIT,
    TAG_COMPARED_WITH,
    TAG_FIRST_ALIAS,
    TAG_PRIMARY,
    TAG_RUN_KEY,
    TAG_SEED,
    TAG_SNAPSHOT_HASH,
    TAG_SNAPSHOT_VERSION,
    TAG_SOURCE_HASH,
    TAG_VERDICT,
)


@dataclass(frozen=True)
class Candidate:
    """A trained model and everything that led to it."""

    spec: ModelSpec
    folder: Path
    """The model folder: SKOPS_FILE, ONNX_FILE, SERVING_FILE."""
    run_key: str
    run_id: str
    cause: str
    snapshot: SnapshotRef
    quality: QualityReport
    record: TrainingRecord
    evaluation: Evaluation
    gate: GateReport
    code: CodeIdentity
    example: Mapping[str, Any]
    """One row of features."""
    extra_metrics: Mapping[str, float]
    """More numbers to show beside the metrics, such as the export's benchmark."""


def register_candidate(
    registry: Registry, candidate: Candidate, now: datetime
) -> RegisteredVersion:
    """Log everything to the run, make the version, give it an alias; answers the version.

    Everything is in place before the version exists, so a version is never without its lineage.
    A version a killed registration left behind is removed on the way. Repeated for a run that has
    its version (its pod was lost before anybody heard of it), it goes on from there.

    Raises:
        UnavailableError: MLflow went away; no half-registered version is shown.
        UsageError: the model folder or the example is not what it must be.
    """
    spec = candidate.spec
    registry.discard_incomplete(spec.name)
    version = _made_before(registry, candidate) or _make(registry, candidate, now)
    if TAG_FIRST_ALIAS not in version.tags:
        alias, note = give_alias(registry, spec.name, version.version)
        marks = {TAG_FIRST_ALIAS: alias, TAG_ALIAS_NOTE: note}
        registry.tag_version(spec.name, version.version, marks)
    return registry.version(spec.name, version.version)


def _made_before(registry: Registry, candidate: Candidate) -> RegisteredVersion | None:
    known = registry.versions(candidate.spec.name)
    return next((one for one in known if one.run_id == candidate.run_id), None)


def _make(registry: Registry, candidate: Candidate, now: datetime) -> RegisteredVersion:
    spec, lineage = candidate.spec, trace(candidate, now)
    documents = {
        ARTIFACT_LINEAGE: lineage.to_json(),
        ARTIFACT_GATE: candidate.gate.to_json(),
        ARTIFACT_SPEC: lineage.spec,
        ARTIFACT_EVALUATION_FILE: candidate.evaluation.to_json(),
        ARTIFACT_TRAINING_FILE: candidate.record.to_json(),
        ARTIFACT_QUALITY_FILE: candidate.quality.to_json(),
    }
    for path, text in documents.items():
        registry.log_text(candidate.run_id, text, path)
    metrics = _numbers(candidate)
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "model"
        shutil.copytree(candidate.folder, whole)
        for path, text in documents.items():
            # Beside the model too, so that a version explains itself when its run is deleted.
            (whole / Path(path).name).write_text(text, encoding="utf-8")
        return registry.register(
            spec,
            candidate.run_id,
            whole,
            short_tags(lineage, candidate.gate, spec.metrics.primary),
            metrics,
            candidate.example,
            describe(candidate, lineage),
        )


def trace(candidate: Candidate, now: datetime) -> Lineage:
    """The lineage of a candidate, hashes of its files included."""
    text = dump_spec(candidate.spec)
    return Lineage(
        model=candidate.spec.name,
        run_key=candidate.run_key,
        mlflow_run_id=candidate.run_id,
        snapshot=candidate.snapshot,
        code=candidate.code,
        spec=text,
        spec_hash=hashlib.sha256(text.encode()).hexdigest(),
        estimator=candidate.record.estimator,
        parameters=candidate.record.parameters,
        seed=candidate.record.seed,
        champion=candidate.evaluation.champion_version,
        cause=candidate.cause,
        trained_at=now,
        model_hash=file_hash(candidate.folder / SKOPS_FILE),
        onnx_hash=file_hash(candidate.folder / ONNX_FILE),
    )


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def short_tags(lineage: Lineage, gate: GateReport, primary: str) -> dict[str, str]:
    """The lineage in short, for the list of versions and the MLflow UI."""
    dirty = " (dirty)" if lineage.code.dirty else ""
    return {
        TAG_RUN_KEY: lineage.run_key,
        TAG_CAUSE: lineage.cause,
        TAG_VERDICT: str(gate.verdict),
        TAG_SNAPSHOT_VERSION: str(lineage.snapshot.version),
        TAG_SNAPSHOT_HASH: lineage.snapshot.content_hash,
        TAG_COMMIT: f"{lineage.code.commit or 'unknown'}{dirty}",
        TAG_SOURCE_HASH: lineage.code.source_hash,
        TAG_PRIMARY: primary,
        TAG_SEED: str(lineage.seed),
        TAG_COMPARED_WITH: lineage.champion or "nothing",
    }


def describe(candidate: Candidate, lineage: Lineage) -> str:
    """The version's description in the MLflow UI, in Markdown."""
    evaluation, snapshot, code = candidate.evaluation, lineage.snapshot, lineage.code
    own = evaluation.metrics.get(evaluation.primary)
    lines = [
        f"**{candidate.gate.verdict}** on {evaluation.rows:,} holdout rows: "
        f"{evaluation.primary} {own if own else 'not computed'}",
        "",
        *(f"- {reason.verdict}: {reason.text}" for reason in candidate.gate.reasons),
        "",
        "| | |",
        "|---|---|",
        f"| cause | {lineage.cause} |",
        f"| data | snapshot {snapshot.version}, {snapshot.rows:,} rows, "
        f"`{snapshot.content_hash[:12]}` of {snapshot.source} |",
        f"| code | `{(code.commit or 'unknown')[:12]}`"
        f"{' with uncommitted changes' if code.dirty else ''}, sources `{code.source_hash[:12]}` |",
        f"| estimator | {lineage.estimator}, seed {lineage.seed} |",
        f"| compared with | {f'version {lineage.champion}' if lineage.champion else 'nothing'} |",
        f"| trained at | {lineage.trained_at:%Y-%m-%d %H:%M:%S %Z} |",
    ]
    return "\n".join(lines)


def give_alias(registry: Registry, model: str, version: str) -> tuple[str, str]:
    """Champion for the very first version, candidate for every later one; answers it and why.

    Two first trainings at once agree without a lock: version numbers rise in order of creation,
    each waits until no lower number is still being registered, and then every one computes the
    same winner, the lowest complete version, and writes that. An alias points at one version, so
    there is never more than one champion. A champion that a person removed is not replaced.
    """
    if registry.settle(model, below=version):
        waited = ""
    else:
        waited = " An older version is still being registered; it was not waited for any longer."
    champion = registry.by_alias(model, ALIAS_CHAMPION)
    if champion is None:
        complete = registry.versions(model)
        if any(TAG_FIRST_ALIAS in v.tags for v in complete):
            # Another process may have named one since; its tag is written after its alias.
            champion = registry.by_alias(model, ALIAS_CHAMPION)
        else:
            champion = min(complete, key=lambda v: int(v.version))
            registry.set_alias(model, ALIAS_CHAMPION, champion.version)
            registry.tag_version(model, champion.version, {TAG_FIRST_ALIAS: ALIAS_CHAMPION})
    if champion is not None and champion.version == version:
        return ALIAS_CHAMPION, "the first version of this model"
    return ALIAS_CANDIDATE, _make_candidate(registry, model, version, champion) + waited


def _make_candidate(
    registry: Registry, model: str, version: str, champion: RegisteredVersion | None
) -> str:
    beside = f"beside champion {champion.version}" if champion else "the champion was removed"
    before = registry.by_alias(model, ALIAS_CANDIDATE)
    if before is not None and int(before.version) > int(version):
        return f"{beside}; the alias stays with the newer candidate {before.version}"
    registry.set_alias(model, ALIAS_CANDIDATE, version)
    moved = f"; the alias moved here from candidate {before.version}" if before else ""
    return beside + moved


def _numbers(candidate: Candidate) -> dict[str, float]:
    values = {name: metric.value for name, metric in candidate.evaluation.metrics.items()}
    values.update(candidate.extra_metrics)
    values["holdout_rows"] = float(candidate.evaluation.rows)
    return {name: value for name, value in values.items() if math.isfinite(value)}
