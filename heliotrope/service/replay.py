"""Replays history against a gateway: rows when they are due, their labels when those are.

Where the replay drives the platform's clock, the clock waits for the rows: it stands still while
requests or labels are late, and, where asked, while something slow goes on (a training run), so
that a machine's slowness does not become days of the story.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from heliotrope.clock import Clock
from heliotrope.domain.replay import DueRow, ReplaySchedule
from heliotrope.errors import UnavailableError
from heliotrope.service.label_sending import LabelClient
from heliotrope.service.replay_counts import ReplayCounts
from heliotrope.service.replay_labels import UPLOAD_ROWS, ReplayLabels

RETRY_PAUSES = (0.1, 0.4, 1.5)
"""Seconds before a row is asked again that got no answer, or one that may be better next time."""
_LONGEST_NAP = 0.02
_SHOW_SECONDS = 0.2
_STEER_SECONDS = 0.05
_LABEL_SECONDS = 0.1
_LATE = 0.5
"""Seconds of the machine by which rows may be late before the clock waits for them."""


@dataclass(frozen=True)
class Asked:
    """A gateway's answer."""

    status: int
    version: str
    """That answered; empty where it says none."""
    prediction_id: str
    """Empty where nothing was predicted."""
    error: str
    seconds: float


class Gateway(Protocol):
    """Takes requests."""

    url: str

    async def ask(self, values: Mapping[str, Any], request_id: str) -> Asked:
        """Have a row predicted; UnavailableError when there is no answer."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class ClockHand(Protocol):
    """Moves the platform's clock."""

    @property
    def speed(self) -> float:
        """Simulated seconds a second while it runs; it may change."""
        ...

    def run(self) -> None:
        """Let it run."""
        ...

    def hold(self) -> None:
        """Let it stand still."""
        ...


@dataclass(frozen=True)
class ReplayOptions:
    """How a replay behaves."""

    model: str
    name: str
    """Of the replay; part of request ids, so that rows of two replays are not taken for one."""
    entity_key: str | None = None
    """The column whose value labels name; their prediction's id where it is None."""
    connections: int = 16
    wait_for_labels: bool = True
    """Whether it goes on, after the last row, until the last label is due and sent."""
    patience: float = 30.0
    """Seconds without any answer after which a gateway or collector counts as gone."""


class Replay:
    """One replay, from the first row to the last label.

    Args:
        schedule: what is due when.
        gateway: takes the rows.
        labels: takes the labels.
        clock: of the platform.
        speed: clock seconds a second, now.
        options: how it behaves.
        hand: drives the clock, where this replay does.
        busy: whether the clock is to stand still for something else; called on a thread.
        show: told the counts a few times a second.
    """

    def __init__(
        self,
        schedule: ReplaySchedule,
        gateway: Gateway,
        labels: LabelClient,
        clock: Clock,
        speed: Callable[[], float],
        options: ReplayOptions,
        *,
        hand: ClockHand | None = None,
        busy: Callable[[], bool] | None = None,
        show: Callable[[ReplayCounts], None] = lambda _: None,
    ) -> None:
        self.counts = ReplayCounts()
        self._schedule, self._gateway, self._options = schedule, gateway, options
        self._clock, self._speed = clock, speed
        self._hand, self._busy, self._show = hand, busy, show
        field = "entity_key" if options.entity_key else "prediction_id"
        self._labels = ReplayLabels(
            labels, options.model, field, options.name, self.counts, self._gives_up
        )
        self._open: set[asyncio.Task[None]] = set()
        self._answered_at = time.monotonic()
        self._rows_done = False
        self._broken: BaseException | None = None

    def unsent_labels(self) -> list[dict[str, Any]]:
        """After `run`: labels that were not acknowledged, as the collector takes them."""
        rest = [*self._labels.in_hand, *self._schedule.every_label()]
        return self._labels.rows(rest)

    async def run(self) -> None:
        """Send everything.

        Raises:
            UnavailableError: the gateway or the collector is gone.
            UsageError: the collector takes nothing from us.
        """
        self._answered_at = time.monotonic()
        helpers = [asyncio.create_task(self._guarded(self._send_labels()))]
        if self._hand is not None:
            helpers.append(asyncio.create_task(self._guarded(self._steer(self._hand))))
        try:
            await self._send_rows()
            self._rows_done = True
            while self._options.wait_for_labels and not helpers[0].done() and self._broken is None:
                await asyncio.wait([helpers[0]], timeout=_SHOW_SECONDS)
                self._show(self.counts)
            self._raise_broken()
        finally:
            for task in (*helpers, *self._open):
                task.cancel()
            await asyncio.gather(*helpers, *self._open, return_exceptions=True)
            await self._gateway.close()
            self._show(self.counts)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - raised by `run`, whatever it is
            self._broken = self._broken or error

    def _raise_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    async def _send_rows(self) -> None:
        most = 2 * self._options.connections
        shown = 0.0
        while self._schedule.rows_left or self._open:
            self._raise_broken()
            now = self._clock.now()
            due = self._schedule.due_rows(now, most - len(self._open))
            for row in due:
                self._begin(row, now)
            if time.monotonic() - shown > _SHOW_SECONDS:
                shown = time.monotonic()
                self._show(self.counts)
            if len(self._open) >= most or not self._schedule.rows_left:
                await asyncio.wait(
                    self._open, timeout=_LONGEST_NAP, return_when=asyncio.FIRST_COMPLETED
                )
            else:
                await asyncio.sleep(self._nap(self._schedule.next_row_at()))

    def _begin(self, due: DueRow, now: datetime) -> None:
        self.counts.sent += 1
        speed = self._speed()
        if speed > 0:
            late = (now - due.moment).total_seconds() / speed
            self.counts.behind = max(self.counts.behind, late)
        task = asyncio.create_task(self._guarded(self._ask(due)))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    def _nap(self, until: datetime | None) -> float:
        speed = self._speed()
        if until is None or speed == 0:
            return _LONGEST_NAP
        real = (until - self._clock.now()).total_seconds() / speed
        return min(max(real, 0.0), _LONGEST_NAP)

    async def _ask(self, due: DueRow) -> None:
        request_id = f"{self._options.name}-{due.row.number}"
        trouble = ""
        for pause in (*RETRY_PAUSES, None):
            try:
                asked = await self._gateway.ask(due.row.values, request_id)
            except UnavailableError:
                trouble = "no answer"
            else:
                if asked.status < 500 and asked.status not in (408, 429):
                    self._answered_at = time.monotonic()
                    self._note(due, asked)
                    return
                trouble = f"HTTP {asked.status}"
            if pause is not None:
                self.counts.retries += 1
                await asyncio.sleep(pause)
        self.counts.failed[trouble] += 1
        silent = time.monotonic() - self._answered_at
        if silent > self._options.patience:
            raise UnavailableError(
                f"The gateway at {self._gateway.url} must answer. For {silent:.0f} s it did not: "
                f"{trouble}."
            )

    def _note(self, due: DueRow, asked: Asked) -> None:
        if asked.status != 200:
            self.counts.refuse(asked.error or f"HTTP {asked.status}")
            return
        self.counts.answered[asked.version or "unknown"] += 1
        self.counts.seconds.append(asked.seconds)
        column = self._options.entity_key
        key = str(due.row.values.get(column, "")) if column else asked.prediction_id
        if key:
            self._schedule.answered(due, key, self._clock.now())

    async def _send_labels(self) -> None:
        while not self._rows_done or self._schedule.labels_left:
            due = self._schedule.due_labels(self._clock.now(), UPLOAD_ROWS)
            if due:
                await self._labels.send(due)
            # A full upload is followed by the next at once; else more are gathered first.
            if len(due) < UPLOAD_ROWS:
                await asyncio.sleep(_LABEL_SECONDS)

    def _gives_up(self, silent: float) -> bool:
        # While rows go on, labels are only kept. At the end somebody waits for them, and so does a
        # clock that this replay drives.
        awaited = self._rows_done or self._hand is not None
        return awaited and silent > self._options.patience

    async def _steer(self, hand: ClockHand) -> None:
        running, asked_at, busy = 0.0, 0.0, False
        while True:
            if self._busy is not None and time.monotonic() - asked_at > 5 * _STEER_SECONDS:
                busy, asked_at = await asyncio.to_thread(self._busy), time.monotonic()
            speed = hand.speed
            wanted = 0.0 if busy or self._late(speed) else speed
            if wanted != running:
                (hand.run if wanted else hand.hold)()
                running = wanted
            await asyncio.sleep(_STEER_SECONDS)

    def _late(self, speed: float) -> bool:
        now, room = self._clock.now(), timedelta(seconds=_LATE * speed)
        row, label = self._schedule.next_row_at(), self._schedule.next_label_at()
        return (row is not None and now - row > room) or (
            label is not None and now - label > 2 * room
        )
