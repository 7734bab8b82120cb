"""Who asks for a retraining, and what becomes of it."""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from heliotrope.domain.document import Document
from heliotrope.domain.remedy.documents import Remedy
from heliotrope.domain.row_loss import HoldoutLoss
from heliotrope.vocabulary import Outcome


class CauseKind(StrEnum):
    """What asks."""

    SCHEDULE = "schedule"
    """The spec's cron line."""
    DRIFT = "drift"
    """K of the last N windows drifted."""
    ACCURACY = "accuracy"
    """A sequential test on labelled outcomes."""
    ALERT = "alert"
    """A rule of Prometheus, told by Alertmanager."""
    PERSON = "person"
    """Somebody ordered it."""
    PERSISTENCE = "persistence"
    """A retraining ended and the target is still missed."""

    @property
    def evidence(self) -> bool:
        """Whether the loop asks of itself, on what it saw."""
        return self not in (CauseKind.SCHEDULE, CauseKind.PERSON)


class Cause(Document):
    """A reason to train again."""

    kind: CauseKind
    key: str
    """Which one it is, the same however often it is told: a window, an alarm, a firing time."""
    model: str
    text: str
    """Why, in one sentence with the numbers."""
    asked_at: datetime
    """UTC, by the controller's clock."""
    evidence: dict[str, Any] = Field(default_factory=dict)
    """JSON: what it rests on."""
    remedy: Remedy | None = None
    """What the diagnosis says; None where there was none."""
    harm: bool | None = None
    """Whether labelled outcomes show that the model got worse; None where the asker cannot say."""
    since: datetime | None = None
    """When the world changed, as far as a detector can tell; the run tries a memory from there."""
    champion: str | None = None
    """The version that it is about; filled in where it is asked."""
    person: str | None = None
    """Who ordered it."""
    forced: bool = False
    """A person's word that failed candidates before it do not count."""

    @property
    def hash(self) -> str:
        """Names the cause, its trigger and its run; only kind, model and key count."""
        text = "\n".join((self.model, self.kind.value, self.key))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def run_key(self) -> str:
        """The run that this cause starts, if it starts one: so it never starts two."""
        return f"{self.model}-{self.kind.value}-{self.hash}"

    @property
    def actor(self) -> str:
        """Who asks, as the decision log writes it."""
        return (
            f"person:{self.person or 'unknown'}" if self.kind is CauseKind.PERSON else "controller"
        )


class TriggerState(StrEnum):
    """Where a trigger is."""

    WAITING = "waiting"
    """It is looked at again at every tick."""
    REFUSED = "refused"
    """It starts nothing."""
    WITHDRAWN = "withdrawn"
    """It was waiting, and what it rested on is over; told again, it is looked at again."""
    REQUESTED = "requested"
    """A run is to start; it may not have yet."""
    RUNNING = "running"
    """Its run is under way."""
    ENDED = "ended"
    """Its run is over."""


FLYING = frozenset({TriggerState.REQUESTED, TriggerState.RUNNING})
"""A run is under way, or about to be."""
OPEN = frozenset({TriggerState.WAITING, *FLYING})
"""Something is still to be done."""


class Trigger(Document):
    """One cause and what became of it; its key in the store is the cause's hash."""

    cause: Cause
    state: TriggerState
    rule: str
    """The rule that decided, such as `cooldown`."""
    reason: str
    """Why it is where it is, in numbers."""
    decided_at: datetime
    """When the state last changed."""
    until: datetime | None = None
    """While waiting: when it is worth looking again, where that is known."""
    requested_at: datetime | None = None
    """When the run was decided upon; what the budget counts."""
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    version: str | None = None
    """What was registered."""

    @property
    def run_key(self) -> str | None:
        """Its run, once one was decided upon."""
        return None if self.requested_at is None else self.cause.run_key


class AcceptedLevel(Document):
    """The level at which a model was first accepted: the target for ever.

    A retraining that reset it would accept its own failure (a detector that does so stays at .48
    after an abrupt change, measured on the project's streams).
    """

    metric: str
    value: float
    low: float
    high: float
    rows: int
    """Of the holdout it was measured on."""
    watched: HoldoutLoss | None = None
    """What sequential tests watch, over the same rows; None in a level written down without."""
    version: str
    accepted_at: datetime
    """When it was written down, by the controller's clock."""
