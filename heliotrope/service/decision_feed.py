"""Follows the decision log: each entry is handed on at least once, in order, across restarts."""

from collections.abc import Sequence
from datetime import datetime

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

    def past(self, kinds: Sequence[DecisionKind], most: int) -> list[Decision]:
        """The newest entries of some kinds that are done, oldest first.

        Raises:
            UnavailableError: the store does not answer.
        """
        found = self._state.decisions(self._model, kinds=kinds, limit=most)
        return [one for one in found if one.sequence <= self.done_to]

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
