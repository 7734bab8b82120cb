"""A rollout as it is kept, and what a tick makes of it."""

from datetime import datetime

from heliotrope.domain.document import Document
from heliotrope.domain.rollout.evidence import Health
from heliotrope.domain.rollout.states import CROWNED, LIVE, TERMINAL, RolloutState
from heliotrope.vocabulary import Verdict


class Rollout(Document):
    """One candidate's way, from when it was opened to its end."""

    model: str
    number: int
    """From 1, rising within a model."""
    candidate: str
    """The version that is tried."""
    champion: str | None
    """The version it is to follow; None for a model's first, which goes straight."""
    cause: str
    """Why it was opened."""
    state: RolloutState = RolloutState.PENDING
    share: int = 0
    """Per cent of live traffic that the candidate is to have."""
    turn: int = 0
    """Rises with every change of state or share; evidence says which turn it is of."""
    opened_at: datetime
    entered_at: datetime
    """When this turn began; moved on by the time nobody watched (see `decide`)."""
    seen_at: datetime
    """The last tick that was written down."""
    reason: str
    """Why it is where it is, in numbers."""
    settled: bool = False
    """Whether this turn's plan was ever seen carried out."""
    restarts: int = 0
    """Restarts of the candidate when that was first seen."""
    replayed: int = 0
    """Logged requests that were asked again before this turn; no users' requests."""
    better: bool = False
    """Whether the comparison has passed, which it did with confidence and so for good."""
    paused_from: RolloutState | None = None
    """The state to go on from; only while PAUSED."""
    forced_by: str | None = None
    """The person who promoted it without the evidence."""
    trained_until: datetime | None = None
    """The candidate learnt from what happened before; it is judged on what came after."""
    champion_seen: Health | None = None
    """The champion's requests as they were known when it last had users: on the last step it has
    none, and a controller that was started since has counted none."""
    error_scale: float | None = None
    """Regression: the error that counts as 1, fixed before any is seen."""
    concluded: bool = False
    """The end's alias and plan were seen in force; nothing is left to do."""

    @property
    def effective(self) -> RolloutState:
        """The state whose shares are in force: while PAUSED, the one it was paused from."""
        return self.paused_from if self.paused_from is not None else self.state

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in TERMINAL

    @property
    def live(self) -> bool:
        """Whether users get the candidate's answers."""
        return self.effective in LIVE

    @property
    def crowned(self) -> bool:
        """Whether the candidate is champion."""
        return self.effective in CROWNED


class Check(Document):
    """One question that a rollout is judged by."""

    check: str
    """`alive`, `errors`, `latency`, `replay` or `comparison`."""
    verdict: Verdict
    text: str
    """The answer in numbers."""
    demanded: bool = True
    """Whether the step waits for a PASS; a FAIL counts in any case."""


class Waits(Document):
    """What a rollout waits for."""

    text: str
    """For a person."""
    labels: int | None = None
    """How many more paired labels it needs, as far as can be told."""
    until: datetime | None = None
    """When that is at the present rate of labels, or when the wait is over anyway."""


class SetTraffic(Document):
    """Revisions or their shares change."""

    weights: dict[str, int]
    """Per cent by version."""


class PointAlias(Document):
    """The registry's champion alias moves."""

    version: str


Action = SetTraffic | PointAlias


class Decision(Document):
    """What one tick decided."""

    rollout: Rollout
    """As it is from now on."""
    actions: tuple[Action, ...]
    """What that changes outside; empty where nothing does."""
    verdict: Verdict
    """The most severe of the checks that count."""
    checks: tuple[Check, ...]
    waits: Waits | None
    """None once it is over."""


def rollout_key(number: int) -> str:
    """The key of a rollout in the state store; keys sort as numbers do."""
    return f"{number:06d}"
