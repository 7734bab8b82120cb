"""The accepted model as an evaluation meets it: loaded, in its own columns, on the same rows."""

from datetime import datetime
from pathlib import Path

import numpy as np

from heliotrope.domain.lineage import Lineage
from heliotrope.domain.serving import ServingContract
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.training import TrainingRecord
from heliotrope.errors import DataFault, HeliotropeError, NotFoundError, SpecError
from heliotrope.ports import EvaluationData, JudgedRows, RegisteredVersion, Registry
from heliotrope.service.comparison import Champion
from heliotrope.service.serving import fetch_model
from heliotrope.service.training_tools import LoadScorer
from heliotrope.spec import parse_spec
from heliotrope.vocabulary import (
    ALIAS_CHAMPION,
    ARTIFACT_LINEAGE,
    ARTIFACT_SPEC,
    ARTIFACT_TRAINING_FILE,
    ONNX_FILE,
    SERVING_FILE,
)


def champion_lineage(registry: Registry, model: str) -> Lineage | None:
    """Where the champion comes from; None without a champion."""
    found = registry.by_alias(model, ALIAS_CHAMPION)
    if found is None:
        return None
    return Lineage.from_json(registry.read_text(found.run_id, ARTIFACT_LINEAGE))


def load_champion(
    registry: Registry,
    model: str,
    ref: SnapshotRef,
    data: EvaluationData,
    judged: JudgedRows,
    cache: Path,
    load_scorer: LoadScorer,
) -> Champion | None:
    """The champion ready to be scored on a holdout; with `error` set where it cannot be.

    A champion that cannot be loaded is evidence too: the gate then says ERROR, never PASS.

    Args:
        registry: knows the champion.
        model: its name.
        ref: the snapshot that the holdout is of.
        data: that snapshot.
        judged: the holdout.
        cache: folder for downloaded models.
        load_scorer: makes a scorer of an ONNX file.

    Raises:
        UnavailableError: the registry does not answer.
    """
    found = registry.by_alias(model, ALIAS_CHAMPION)
    if found is None:
        return None
    try:
        spec = parse_spec(registry.read_text(found.run_id, ARTIFACT_SPEC), "champion's spec")
        folder = fetch_model(registry, found, cache)
        contract = ServingContract.from_json((folder / SERVING_FILE).read_bytes())
        scorer = load_scorer(folder / ONNX_FILE)
        features = data.features_of(spec, judged)
        until, first_unseen = _cut_off(registry, found, ref)
    except (DataFault, NotFoundError, SpecError, ValueError) as error:
        return Champion(version=found.version, error=str(error))
    except HeliotropeError as error:
        if error.exit_code != HeliotropeError.exit_code:
            raise
        return Champion(version=found.version, error=str(error))
    return Champion(
        version=found.version,
        scorer=scorer,
        features=features,
        threshold=contract.threshold,
        trained_until=until,
        seen=None if first_unseen is None else np.asarray(judged.row_ids < first_unseen),
    )


def _cut_off(
    registry: Registry, found: RegisteredVersion, ref: SnapshotRef
) -> tuple[datetime | None, int | None]:
    record = TrainingRecord.from_json(registry.read_text(found.run_id, ARTIFACT_TRAINING_FILE))
    lineage = Lineage.from_json(registry.read_text(found.run_id, ARTIFACT_LINEAGE))
    same = lineage.snapshot.content_hash == ref.content_hash
    ends = [part.event_to for part in (record.train, record.calibration) if part.event_to]
    return max(ends, default=None), record.holdout.row_from if same else None
