"""The level at which a model was first accepted, written down once."""

import math
from datetime import datetime

from heliotrope.domain.evaluation import Evaluation
from heliotrope.domain.triggers import AcceptedLevel
from heliotrope.errors import ConflictError, NotFoundError
from heliotrope.ports import RegisteredVersion, Registry
from heliotrope.ports.state import Put, StateKind, StateStore
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import ALIAS_CHAMPION, ARTIFACT_EVALUATION_FILE, TAG_FIRST_ALIAS


def read_accepted(state: StateStore, spec: ModelSpec) -> AcceptedLevel | None:
    """The level of the primary metric; None before a champion's was written down."""
    kept = state.get(StateKind.ACCEPTED, spec.name, spec.metrics.primary)
    return None if kept is None else AcceptedLevel.from_json(kept.text)


def write_accepted(
    state: StateStore, registry: Registry, spec: ModelSpec, now: datetime
) -> AcceptedLevel | None:
    """The level, taken from the first champion's holdout where it is not written down yet.

    Never written twice, so that no later model lowers what is demanded. None where there is no
    champion, or its evaluation is not there or names no such level.
    """
    known = read_accepted(state, spec)
    if known is not None:
        return known
    first = _first_champion(registry, spec.name)
    if first is None:
        return None
    try:
        text = registry.read_text(first.run_id, ARTIFACT_EVALUATION_FILE)
    except NotFoundError:
        return None
    evaluation = Evaluation.from_json(text)
    primary = spec.metrics.primary
    found = evaluation.metrics.get(primary)
    if found is None or not math.isfinite(found.value):
        return None
    level = AcceptedLevel(
        metric=primary,
        value=found.value,
        low=found.low,
        high=found.high,
        rows=evaluation.rows,
        watched=evaluation.watched,
        version=first.version,
        accepted_at=now,
    )
    put = Put(StateKind.ACCEPTED, spec.name, primary, level.to_json(), expected=0)
    try:
        state.apply(now, [put])
    except ConflictError:
        # Another process was first, and its level holds.
        return read_accepted(state, spec)
    return level


def _first_champion(registry: Registry, model: str) -> RegisteredVersion | None:
    firsts = [
        version
        for version in registry.versions(model)
        if version.tags.get(TAG_FIRST_ALIAS) == ALIAS_CHAMPION
    ]
    if firsts:
        return min(firsts, key=lambda version: int(version.version))
    return registry.by_alias(model, ALIAS_CHAMPION)
