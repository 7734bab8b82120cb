"""The controller's loop: duties, one after another, each tick.

A duty gathers, decides and applies; it may be killed anywhere and does the rest at its next run.
One that fails is counted and told, and the others go on. Ticks never overlap: a slow duty makes
the next tick late, and those it missed are left out.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import Protocol

from heliotrope.clock import Clock
from heliotrope.errors import HeliotropeError
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board

logger = logging.getLogger("heliotrope.controller")
LONGEST_REASON = 300
"""Characters of an unforeseen error that are shown; the log has all of them."""
STANDBY_SECONDS = 0.5
"""Between two looks at whether the lock is free."""
LATE_TICKS = 30
"""A loop of which no duty ended for so many ticks, and for `LATE_SECONDS`, is not ready."""
LATE_SECONDS = 60.0


class Duty(Protocol):
    """One thing that the controller keeps doing."""

    @property
    def name(self) -> str:
        """Short, for logs and metrics; the same at every start."""
        ...

    def run(self, now: datetime) -> None:
        """Gather, decide, apply; idempotent. What it raises is counted and told.

        Args:
            now: the controller's clock, UTC. It may jump, forward and backward.
        """
        ...


class Lock(Protocol):
    """Held by the one controller that acts; the system frees it when its holder dies."""

    def take(self) -> bool:
        """Try to take it; answers whether it is ours."""
        ...

    def holder(self) -> str:
        """Who holds it, as far as is known."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...


@dataclass
class _Failing:
    """What is known of a duty that failed last time."""

    reason: str
    times: int = 1


@dataclass
class Controller:
    """Runs duties until it is told to stop."""

    duties: Sequence[Duty]
    clock: Clock
    board: Board
    lock: Lock
    tick_seconds: float = 1.0
    monotonic: Callable[[], float] = time.monotonic
    active: bool = False
    """Whether it holds the lock."""
    _wake: Event = field(default_factory=Event)
    _stop: Event = field(default_factory=Event)
    _moved: float | None = None
    _failing: dict[str, _Failing] = field(default_factory=dict)

    def wake(self) -> None:
        """There is new work: run the next tick at once. Any thread may call it."""
        self._wake.set()

    def stop(self) -> None:
        """End after the duty that runs now. Any thread may call it."""
        self._stop.set()
        self._wake.set()

    @property
    def ready(self) -> bool:
        """Whether it acts: it holds the lock and the last duty ended not long ago."""
        if not self.active or self._moved is None:
            return False
        late = max(LATE_TICKS * self.tick_seconds, LATE_SECONDS)
        return self.monotonic() - self._moved <= late

    @property
    def matters(self) -> tuple[str, ...]:
        """What it cannot do at present, in words."""
        return tuple(f"{name}: {one.reason}" for name, one in sorted(self._failing.copy().items()))

    def run(self) -> None:
        """Wait for the lock, then tick until `stop` is called."""
        self.board.set(metrics.CONTROLLER_ACTIVE, 0)
        while not self._stop.is_set():
            if self._take():
                break
            self._stop.wait(STANDBY_SECONDS)
        else:
            return
        try:
            self.active = True
            self._failing.pop("lock", None)
            self.board.set(metrics.CONTROLLER_ACTIVE, 1)
            self._loop()
        finally:
            self.active = False
            self.board.set(metrics.CONTROLLER_ACTIVE, 0)
            self.lock.release()

    def _take(self) -> bool:
        try:
            return self.lock.take()
        except HeliotropeError as error:
            self._tell("lock", error)
            return False

    def _loop(self) -> None:
        while not self._stop.is_set():
            began = self.monotonic()
            # Cleared before the duties look, so that what comes while they run is not overlooked.
            self._wake.clear()
            self.tick()
            if not self._stop.is_set():
                self._wake.wait(max(0.0, began + self.tick_seconds - self.monotonic()))

    def tick(self) -> None:
        """Every duty once, unless it is told to stop in between."""
        for duty in self.duties:
            if self._stop.is_set():
                return
            began = self.monotonic()
            try:
                now = self.clock.now()
                self.board.set(metrics.CLOCK, now.timestamp())
                duty.run(now)
            except Exception as error:  # noqa: BLE001 - one duty's fault must not stop the others
                self._failed(duty, error)
            else:
                self._worked(duty)
            self._moved = self.monotonic()
            self.board.observe(metrics.TICK_SECONDS, self._moved - began, duty.name)

    def _failed(self, duty: Duty, error: Exception) -> None:
        self.board.add(metrics.DUTY_FAILURES, duty.name, getattr(duty, "model", ""))
        self._tell(duty.name, error)

    def _tell(self, name: str, error: Exception) -> None:
        # A person's or a peer's doing is told in a line; anything else is a fault of ours.
        known_kind = isinstance(error, HeliotropeError)
        reason = str(error) if known_kind else _first_line(error)
        known = self._failing.get(name)
        if known is not None and known.reason == reason:
            known.times += 1
            return
        self._failing[name] = _Failing(reason)
        logger.warning(
            "%s must work; it is tried again and again. %s", name, reason,
            exc_info=None if known_kind else error,
        )  # fmt: skip

    def _worked(self, duty: Duty) -> None:
        self.board.set(metrics.LAST_TICK, time.time(), duty.name)
        known = self._failing.pop(duty.name, None)
        if known is not None:
            logger.warning("%s works again, after %d failures.", duty.name, known.times)


def _first_line(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text[:LONGEST_REASON]}"
