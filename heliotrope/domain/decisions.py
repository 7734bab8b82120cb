"""The decision log: who or what decided, on what evidence, why; each entry sealed by a hash.

An entry's hash covers the one before, so that a row that was changed, removed or slipped in is
found by whoever reads the chain again.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from heliotrope.domain.document import Document

FIRST = "0" * 64
"""What the first entry of a model's log says of the one before."""


class DecisionKind(StrEnum):
    """What was decided upon."""

    VERDICT = "verdict"
    """A judgement: of drift, accuracy, a gate."""
    ALARM = "alarm"
    """An alarm was raised or is over."""
    DIAGNOSIS = "diagnosis"
    """A cause was named, with its remedy."""
    TRIGGER = "trigger"
    """Somebody asked for a retraining; it was started or refused."""
    RUN = "run"
    """A training run ended."""
    ROLLOUT = "rollout"
    """A rollout changed its state."""
    TRAFFIC = "traffic"
    """Shares of live traffic were changed."""
    ALIAS = "alias"
    """An alias of the registry was moved."""
    PERSON = "person"
    """A person gave an order."""


class DecisionEntry(Document):
    """A decision before it is in the log."""

    model: str
    at: datetime
    """UTC."""
    kind: DecisionKind
    actor: str
    """`controller`, `person:<name>` or `run:<run key>`."""
    subject: str
    """What it is about: `version 7`, `rollout 3`, `window 2026-03-01`."""
    reason: str
    """One sentence, with the numbers."""
    evidence: dict[str, Any] = Field(default_factory=dict)
    """JSON: what the decision was taken on."""
    key: str | None = None
    """Says which decision it is where the same may be written again after a crash: of two entries
    with one key the log keeps the first."""


class Decision(DecisionEntry):
    """A decision in the log."""

    sequence: int
    """From 1, without holes, within a model."""
    previous: str
    """The hash of the entry before."""
    hash: str


def seal(entry: DecisionEntry, sequence: int, previous: str) -> Decision:
    """The entry as the next link of the chain."""
    fields = entry.model_dump(mode="json")
    return Decision.model_validate(
        {**fields, "sequence": sequence, "previous": previous}
        | {"hash": _digest(fields, sequence, previous)}
    )


def first_broken(decisions: Sequence[Decision]) -> Decision | None:
    """The first entry that is not what was written, oldest first; None when the chain is whole."""
    previous, expected = FIRST, 1
    for decision in decisions:
        fields = decision.model_dump(mode="json", exclude={"sequence", "previous", "hash"})
        if (
            decision.sequence != expected
            or decision.previous != previous
            or decision.hash != _digest(fields, decision.sequence, decision.previous)
        ):
            return decision
        previous, expected = decision.hash, expected + 1
    return None


def _digest(fields: dict[str, Any], sequence: int, previous: str) -> str:
    whole = {**fields, "sequence": sequence, "previous": previous}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
