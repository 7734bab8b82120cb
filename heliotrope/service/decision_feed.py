"""Follows the decision log: each entry is handed on at least once, in order, across restarts."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from heliotrope.domain.alarms import Alarm
from heliotrope.domain.decisions import Decision, DecisionKind
from heliotrope.domain.document import Document
from heliotrope.ports.state import Kept, Put, StateKind, StateStore

PAGE = 200


class Cursor(Document):
    """How far a follower of the log has come."""

    sequence: int = 0


class DecisionFeed:
    """One follower's place in one model's log.

    By number and not by time, since the clock may jump.

    Args:
        state: holds the log and the place.
        follower: its name; the place is kept under it.
        model: whose log.
    """

    def __init__(self, state: StateStore, follower: str, model: str) -> None:
        self._state, self._follower, self._model = state, follower, model
        self._kept: Kept | None = None
        self._read = False

    def fresh(self) -> list[Decision]:
        """Entries that are not done, oldest first.

        Raises:
            UnavailableError: the store does not answer.
        """
        if not self._read:
            self._kept = self._state.get(StateKind.CURSOR, self._model, self._follower)
            self._read = True
        done = self.done_to
        newest, _ = self._state.head(self._model)
        if newest <= done:
            return []
        found = self._state.decisions(self._model, limit=newest - done)
        return [one for one in found if one.sequence > done][:PAGE]

    @property
    def done_to(self) -> int:
        """Number of the last entry that is done."""
        return 0 if self._kept is None else Cursor.from_json(self._kept.text).sequence

    def done(self, sequence: int, now: datetime) -> None:
        """Everything up to this entry is done.

        Raises:
            ConflictError: another process follows under the same name; the place is read again.
        """
        if sequence <= self.done_to:
            return
        revision = 0 if self._kept is None else self._kept.revision
        text = Cursor(sequence=sequence).to_json()
        # Read again after a failure: it may have been written all the same.
        self._read = False
        put = Put(StateKind.CURSOR, self._model, self._follower, text, revision)
        self._state.apply(now, [put])
        self._kept = Kept(put.kind, put.model, put.key, text, revision + 1, now)
        self._read = True


class AlertHandler(Protocol):
    """Does something about alarms that were raised or are over."""

    def heard(self, alarm: Alarm, now: datetime) -> None:
        """One alarm turned; may be told twice after a crash, so it must be idempotent."""
        ...


class AlertDuty:
    """Hands alarms to whoever acts on them, at least once each and in order.

    Args:
        state: holds the log.
        models: whose logs are followed.
        handlers: asked one after another; one that fails is asked again next tick.
    """

    name = "alerts"

    def __init__(
        self, state: StateStore, models: Sequence[str], handlers: Sequence[AlertHandler]
    ) -> None:
        self._feeds = [DecisionFeed(state, self.name, model) for model in models]
        self._handlers = handlers

    def run(self, now: datetime) -> None:
        """Hand on what is new."""
        for feed in self._feeds:
            follow(feed, now, self._handle)

    def _handle(self, decision: Decision, now: datetime) -> None:
        if decision.kind is not DecisionKind.ALARM:
            return
        alarm = Alarm.model_validate(decision.evidence)
        for handler in self._handlers:
            handler.heard(alarm, now)


def follow(feed: DecisionFeed, now: datetime, handle: Callable[[Decision, datetime], None]) -> None:
    """Hand a feed's new entries on, and keep the place also when one fails."""
    last = 0
    try:
        for decision in feed.fresh():
            handle(decision, now)
            last = decision.sequence
    finally:
        feed.done(last, now)
