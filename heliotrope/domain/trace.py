"""One logged answer and what came of it: where the walk from a prediction to its origins begins."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from heliotrope.domain.decisions import Decision, DecisionKind
from heliotrope.domain.document import Document
from heliotrope.domain.triggers import Cause

Value = bool | int | float | str | None


class LoggedAnswer(Document):
    """A prediction as the log holds it."""

    model: str
    prediction_id: str
    request_id: str
    row: int
    """Place within the request, from 0."""
    version: str
    role: str
    """`champion` or `canary` answered a user; `shadow` was asked again from the log."""
    predicted_at: datetime
    received_at: datetime | None
    """When the collector had it."""
    entity_key: str | None
    prediction: str | None
    score: float | None
    scores: tuple[float | None, ...] | None
    """Of every class (multiclass only)."""
    latency_us: int | None
    features: dict[str, Value]
    """As they were answered on; None where missing."""


class KnownLabel(Document):
    """The label that counts for an answer."""

    label: str
    received_at: datetime
    right: bool | None
    """Whether the answer was; None for a number, which is off by more or less."""


def counted_once(answers: Iterable[LoggedAnswer]) -> list[LoggedAnswer]:
    """Each answer once, the earliest of its copies, in order of time."""
    found: dict[tuple[str, str, str], LoggedAnswer] = {}
    for answer in sorted(answers, key=lambda a: (a.predicted_at, a.version, a.role, a.row)):
        found.setdefault((answer.prediction_id, answer.version, answer.role), answer)
    return list(found.values())


_OF_A_ROLLOUT = (
    DecisionKind.ROLLOUT,
    DecisionKind.TRAFFIC,
    DecisionKind.ALIAS,
    DecisionKind.PERSON,
)


def decisions_on(
    decisions: Sequence[Decision], version: str, run_key: str | None
) -> list[Decision]:
    """What was decided about a version: why its run was started, and its way to users and back.

    Args:
        decisions: a model's log, oldest first.
        version: as candidate or as champion of a rollout.
        run_key: of the run that made it.
    """
    rollouts = {
        one.subject
        for one in decisions
        if version in (one.evidence.get("candidate"), one.evidence.get("champion"))
    }
    return [one for one in decisions if _concerns(one, version, run_key, rollouts)]


def _concerns(one: Decision, version: str, run_key: str | None, rollouts: set[str]) -> bool:
    if one.kind is DecisionKind.TRIGGER:
        cause = one.evidence.get("cause")
        asked = None if cause is None else Cause.model_validate(cause)
        return asked is not None and asked.run_key == run_key
    if one.kind is DecisionKind.RUN:
        return run_key is not None and one.evidence.get("run_key") == run_key
    if one.kind is DecisionKind.ALIAS and one.evidence.get("version") == version:
        return True
    number = one.evidence.get("rollout")
    return one.kind in _OF_A_ROLLOUT and (
        one.subject in rollouts or f"rollout {number}" in rollouts
    )
