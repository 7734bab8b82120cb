"""Tells people of what is decided, on a thread of its own: a mail server that hangs delays no tick.

At least once: the place in the log moves on when a message was sent, or was given up on after
some tries, so a restart sends what was waiting, and may send the last message twice.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from queue import SimpleQueue
from threading import Event, Thread

from heliotrope.domain.decisions import DecisionKind
from heliotrope.domain.notices import News, Notice
from heliotrope.errors import UnavailableError
from heliotrope.ports.people import Messenger
from heliotrope.ports.state import StateStore
from heliotrope.service.decision_feed import DecisionFeed
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board

logger = logging.getLogger("heliotrope.notify")

FOLLOWED = (DecisionKind.ALARM, DecisionKind.DIAGNOSIS)
REMEMBERED = 1_000
"""Entries of these kinds that are read again after a start, to know what people heard of."""


@dataclass(frozen=True)
class Patience:
    """How often a message is tried; in the machine's time."""

    tries: int = 6
    first_seconds: float = 1.0
    """Before the second try; doubled before each further one."""
    longest_seconds: float = 60.0

    def wait(self, tried: int) -> float:
        """Seconds before the next try.

        >>> [Patience().wait(tried) for tried in (1, 2, 3, 9)]
        [1.0, 2.0, 4.0, 60.0]
        """
        return float(min(self.first_seconds * 2 ** (tried - 1), self.longest_seconds))


class _Place:
    """How far one model's log is handed to the sender, and sent."""

    def __init__(self, feed: DecisionFeed) -> None:
        self.feed = feed
        self.news: News | None = None
        self.handed = 0
        self.last_letter = 0
        self.sent = 0
        """Moved by the sender's thread only."""

    @property
    def done(self) -> int:
        """Up to which entry nothing is left to be told."""
        return self.handed if self.sent >= self.last_letter else self.sent


_Letter = tuple[_Place, int, Notice]


class NotifyDuty:
    """Follows the decision log and tells people.

    Args:
        state: holds the log.
        models: whose logs are followed.
        messenger: tells people.
        board: the controller's.
        patience: with places that do not take a message.
    """

    name = "notifications"

    def __init__(
        self,
        state: StateStore,
        models: Sequence[str],
        messenger: Messenger,
        board: Board,
        patience: Patience = Patience(),
    ) -> None:
        self._feeds = [DecisionFeed(state, self.name, model) for model in models]
        self._places: list[_Place] = []
        self._messenger, self._board, self._patience = messenger, board, patience
        self._letters: SimpleQueue[_Letter] = SimpleQueue()
        self._stop = Event()
        self._thread: Thread | None = None

    def run(self, now: datetime) -> None:
        """Hand what is new to the sender, and keep how far it has come."""
        if not self._places:
            self._places = [_Place(feed) for feed in self._feeds]
        for place in self._places:
            self._hand_on(place)
            place.feed.done(place.done, now)

    def close(self) -> None:
        """Send nothing more; what waits is sent after the next start."""
        self._stop.set()

    def _hand_on(self, place: _Place) -> None:
        fresh = place.feed.fresh()
        place.handed = max(place.handed, place.feed.done_to)
        if place.news is None:
            place.news = News()
            for decision in place.feed.past(FOLLOWED, REMEMBERED):
                place.news.hear(decision)
        for decision in fresh:
            if decision.sequence <= place.handed:
                continue
            notice = place.news.hear(decision)
            if notice is not None and self._messenger.places:
                place.last_letter = decision.sequence
                self._letters.put((place, decision.sequence, notice))
                self._start()
            place.handed = decision.sequence

    def _start(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._send_all, name="notify", daemon=True)
            self._thread.start()

    def _send_all(self) -> None:
        while not self._stop.is_set():
            place, sequence, notice = self._letters.get()
            if self._send(notice):
                place.sent = sequence

    def _send(self, notice: Notice) -> bool:
        """Try until it is sent or given up; False when stopped before."""
        for tried in range(1, self._patience.tries + 1):
            if self._stop.is_set():
                return False
            try:
                self._messenger.send(notice.title, notice.text, notice.mood)
            except Exception as error:  # noqa: BLE001 - whatever a service does, others are told
                self._board.add(metrics.NOTIFICATIONS, "failed")
                known = isinstance(error, UnavailableError)
                # An unknown error's text may hold an address.
                what = str(error) if known else type(error).__name__
                logger.warning("A message must reach people; try %d: %s", tried, what)
            else:
                self._board.add(metrics.NOTIFICATIONS, "sent")
                return True
            if tried < self._patience.tries and self._stop.wait(self._patience.wait(tried)):
                return False
        logger.error("A message did not reach people and is given up: %s", notice.title)
        return True
