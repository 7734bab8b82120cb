"""The controller's loop: what fails, what is slow, what wakes it, how it ends."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import pytest

from heliotrope.clock import SystemClock
from heliotrope.errors import UnavailableError
from heliotrope.service.controller import Controller, Duty
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board

WAIT = 20.0


@dataclass
class Work:
    """A duty that does what it is told."""

    name: str
    act: Callable[[datetime], None] = lambda _: None
    seen: list[datetime] = field(default_factory=list)

    def run(self, now: datetime) -> None:
        self.seen.append(now)
        self.act(now)


@dataclass
class Turnstile:
    """A lock that another holds until it is freed."""

    free: Event = field(default_factory=Event)
    held: bool = False

    def take(self) -> bool:
        self.held = self.free.is_set()
        return self.held

    def release(self) -> None:
        self.held = False


@dataclass
class Hands:
    """A clock that is set by hand."""

    at: datetime = datetime(2026, 3, 2, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def now_ns(self) -> int:
        return int(self.at.timestamp() * 1e9)


def controller(*duties: Duty, free: bool = True, seconds: float = 0.0) -> Controller:
    lock = Turnstile()
    if free:
        lock.free.set()
    board = Board(metrics.CONTROLLER_METRICS)
    return Controller(duties, SystemClock(), board, lock, seconds)


def failing(error: Exception) -> Callable[[datetime], None]:
    def act(_: datetime) -> None:
        raise error

    return act


def test_a_duty_that_fails_is_counted_and_the_others_go_on() -> None:
    broken, fine = Work("broken", failing(RuntimeError("no"))), Work("fine")
    loop = controller(broken, fine)
    for _ in range(3):
        loop.tick()
    assert len(fine.seen) == len(broken.seen) == 3
    assert dict(loop.board.snapshot(metrics.DUTY_FAILURES)) == {("broken", ""): 3}
    assert [labels for labels, _ in loop.board.snapshot(metrics.LAST_TICK)] == [("fine",)]
    assert loop.matters == ("broken: RuntimeError: no",)


def test_the_same_failure_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    away = [True]

    def act(_: datetime) -> None:
        if away[0]:
            raise UnavailableError("The store must answer. Got silence.")

    loop = controller(Work("truth", act))
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            loop.tick()
        away[0] = False
        loop.tick()
        loop.tick()
    assert [record.getMessage() for record in caplog.records] == [
        "truth must work; it is tried again and again. The store must answer. Got silence.",
        "truth works again, after 4 failures.",
    ]
    assert caplog.records[0].exc_info is None
    assert loop.matters == ()


def test_another_reason_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    reasons = iter(["a", "a", "b"])
    loop = controller(Work("truth", lambda now: failing(ValueError(next(reasons)))(now)))
    for _ in range(3):
        loop.tick()
    assert len(caplog.records) == 2
    assert caplog.records[0].exc_info


def test_of_an_unforeseen_failure_pages_show_a_line_and_the_log_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = controller(Work("truth", failing(ValueError("x" * 1000 + "\nthe rest"))))
    loop.tick()
    (shown,) = loop.matters
    assert shown == "truth: ValueError: " + "x" * 300
    assert "the rest" in caplog.text


def test_duties_see_the_clock_whichever_way_it_jumps() -> None:
    hands, work = Hands(), Work("any")
    loop = controller(work)
    loop.clock = hands
    jumps = [timedelta(0), timedelta(days=400), timedelta(days=-4000)]
    for jump in jumps:
        hands.at += jump
        loop.tick()
    assert work.seen[1] - work.seen[0] == jumps[1]
    assert work.seen[2] - work.seen[1] == jumps[2]
    assert loop.matters == ()


def test_a_clock_that_cannot_be_read_fails_the_duty_and_not_the_loop() -> None:
    class Broken(Hands):
        def now(self) -> datetime:
            raise UnavailableError("no clock")

    work = Work("any")
    loop = controller(work)
    loop.clock = Broken()
    loop.tick()
    assert work.seen == []
    assert loop.matters == ("any: no clock",)


def test_it_waits_between_ticks_and_new_work_wakes_it() -> None:
    ran = [Event(), Event()]
    count = iter(ran)
    work = Work("any", lambda _: next(count).set())
    loop = controller(work, seconds=3600)
    thread = Thread(target=loop.run)
    thread.start()
    assert ran[0].wait(WAIT)
    assert not ran[1].wait(0.05)
    loop.wake()
    assert ran[1].wait(WAIT)
    loop.stop()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert len(work.seen) == 2


def test_it_ends_after_the_duty_that_runs() -> None:
    began, go_on = Event(), Event()

    def act(_: datetime) -> None:
        began.set()
        assert go_on.wait(WAIT)

    slow, after = Work("slow", act), Work("after")
    loop = controller(slow, after)
    thread = Thread(target=loop.run)
    thread.start()
    assert began.wait(WAIT)
    loop.stop()
    assert thread.is_alive()
    go_on.set()
    thread.join(WAIT)
    assert (len(slow.seen), len(after.seen)) == (1, 0)
    assert (loop.active, loop.ready) == (False, False)


def test_slow_ticks_do_not_stack() -> None:
    time = [0.0]

    def act(_: datetime) -> None:
        time[0] += 10
        if len(slow.seen) == 5:
            loop.stop()

    slow = Work("slow", act)
    loop = controller(slow, seconds=1)
    loop.monotonic = lambda: time[0]
    loop.run()
    # Each took ten ticks' time; those that were missed were not made up for.
    assert (len(slow.seen), time[0]) == (5, 50)


def test_one_that_stands_by_acts_once_the_lock_is_free() -> None:
    ran = Event()
    loop = controller(Work("any", lambda _: ran.set()), free=False)
    lock = loop.lock
    assert isinstance(lock, Turnstile)
    thread = Thread(target=loop.run)
    thread.start()
    assert not ran.wait(0.05)
    assert (loop.active, loop.ready) == (False, False)
    assert loop.board.snapshot(metrics.CONTROLLER_ACTIVE) == [((), 0)]
    lock.free.set()
    assert ran.wait(WAIT)
    assert loop.board.snapshot(metrics.CONTROLLER_ACTIVE) == [((), 1)]
    loop.stop()
    thread.join(WAIT)
    assert lock.held is False


def test_it_is_not_ready_when_it_has_not_come_round_for_long() -> None:
    time, ready = [0.0], []

    def act(_: datetime) -> None:
        ready.append(loop.ready)
        time[0] += 61 if len(ready) == 3 else 0
        ready.append(loop.ready)
        if len(ready) == 6:
            loop.stop()

    loop = controller(Work("any", act), seconds=0)
    loop.monotonic = lambda: time[0]
    loop.run()
    assert ready == [False, False, True, False, True, True]
