"""What a replay sends when: rows in the order of their time, each label a while after its row.

Pure: rows come from an iterator, time is an argument, and what was drawn by lot depends on the
seed and the row's number alone, so a replay that is begun again leaves out the same labels.
"""

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from zlib import crc32


@dataclass(frozen=True)
class ReplayRow:
    """One row of history."""

    number: int
    """From 0."""
    at: datetime
    """Its event time, UTC."""
    values: Mapping[str, Any]
    """What a request says of it, as JSON values: features, and the entity key where it has one."""
    label: Any = None
    """Its truth as a JSON value; None where history has none."""


class Pace(Protocol):
    """From rows to moments of the platform's clock."""

    def moment(self, row: ReplayRow) -> datetime:
        """When a row is to be sent; never earlier than the row before it."""
        ...


@dataclass(frozen=True)
class AsTimed:
    """Rows follow each other as their event times do, `speed` times as fast.

    >>> from datetime import UTC
    >>> first, begin = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    >>> row = ReplayRow(9, first + timedelta(days=2), {})
    >>> AsTimed(first, begin, 24.0).moment(row).isoformat()
    '2026-03-01T02:00:00+00:00'
    """

    first: datetime
    """Event time that is sent at `begin`."""
    begin: datetime
    speed: float = 1.0

    def moment(self, row: ReplayRow) -> datetime:
        """When a row is to be sent."""
        return self.begin + (row.at - self.first) / self.speed


@dataclass(frozen=True)
class Evenly:
    """Rows follow each other at one distance, whatever their times are."""

    begin: datetime
    every: timedelta

    def moment(self, row: ReplayRow) -> datetime:
        """When a row is to be sent."""
        return self.begin + row.number * self.every


@dataclass(frozen=True)
class DueRow:
    """A row to send now."""

    row: ReplayRow
    moment: datetime
    """By the platform's clock."""


@dataclass(frozen=True)
class DueLabel:
    """A label to send at its moment."""

    moment: datetime
    number: int
    """Of its row."""
    key: str
    """The prediction's id, or the entity's key."""
    label: Any


class ReplaySchedule:
    """Hands out what is due: each row once and in order, each label once and not before its time.

    Args:
        rows: in the order of their times.
        pace: when rows are sent.
        delay: from a row's moment to its label's.
        share: of the rows whose label is ever sent.
        seed: of the lot that picks them.
    """

    def __init__(
        self,
        rows: Iterator[ReplayRow],
        pace: Pace,
        delay: timedelta,
        share: float = 1.0,
        seed: int = 0,
    ) -> None:
        self._rows, self._pace, self._delay = rows, pace, delay
        self._share, self._seed = share, seed
        self._labels: list[tuple[datetime, int, DueLabel]] = []
        self._next: DueRow | None = None
        self._advance(None)

    def _advance(self, before: datetime | None) -> None:
        row = next(self._rows, None)
        if row is None:
            self._next = None
            return
        moment = self._pace.moment(row)
        if before is not None and moment < before:
            raise ValueError(f"rows must come in the order of their times. Row {row.number} is not")
        self._next = DueRow(row, moment)

    @property
    def rows_left(self) -> bool:
        """Whether a row is still to be sent."""
        return self._next is not None

    @property
    def labels_left(self) -> int:
        """Labels that are known and not yet handed out."""
        return len(self._labels)

    def due_rows(self, now: datetime, most: int) -> list[DueRow]:
        """The next rows whose moment has come, oldest first, at most so many."""
        due: list[DueRow] = []
        while self._next is not None and self._next.moment <= now and len(due) < most:
            due.append(self._next)
            self._advance(self._next.moment)
        return due

    def answered(self, due: DueRow, key: str, now: datetime) -> bool:
        """Note that a row was predicted, so that its label is sent; answers whether it will be.

        Args:
            due: the row.
            key: what its label names: the prediction's id, or the entity's key.
            now: when the answer came; a label is never of an earlier time.
        """
        row = due.row
        if row.label is None or not self._chosen(row.number):
            return False
        moment = max(due.moment + self._delay, now)
        heapq.heappush(
            self._labels, (moment, row.number, DueLabel(moment, row.number, key, row.label))
        )
        return True

    def _chosen(self, number: int) -> bool:
        return crc32(b"%d-%d" % (self._seed, number)) < self._share * 2**32

    def due_labels(self, now: datetime, most: int) -> list[DueLabel]:
        """Labels whose moment has come, the earliest first, at most so many."""
        due: list[DueLabel] = []
        while self._labels and self._labels[0][0] <= now and len(due) < most:
            due.append(heapq.heappop(self._labels)[2])
        return due

    def every_label(self) -> list[DueLabel]:
        """All labels that were not handed out, due or not, the earliest first; none is left."""
        rest = [label for _, _, label in sorted(self._labels, key=lambda item: item[:2])]
        self._labels = []
        return rest

    def next_row_at(self) -> datetime | None:
        """When the next row is due; None when all were handed out."""
        return None if self._next is None else self._next.moment

    def next_label_at(self) -> datetime | None:
        """When the next known label is due."""
        return self._labels[0][0] if self._labels else None


@dataclass(frozen=True)
class ReplayPlan:
    """How rows are laid on the platform's clock."""

    pace: Pace
    delay: timedelta
    """From a row's moment to its label's, by the platform's clock."""
    shift: timedelta
    """By how much the first row's moment lies after its event time."""
    drive: bool = False
    """Whether the replay moves the clock."""
    clock_speed: float | None = None
    """To drive it at; as fast as it runs where it is None."""
    move_clock_to: datetime | None = None
    """Where a driven clock is moved on to before the first row."""


@dataclass(frozen=True)
class Span:
    """What is known of the rows beforehand."""

    count: int
    first: datetime
    """Event time of the first row, UTC."""
    last: datetime

    @property
    def length(self) -> timedelta:
        """From the first to the last."""
        return self.last - self.first


def plan_machine_time(
    span: Span,
    now: datetime,
    label_delay: timedelta,
    *,
    rate: float | None = None,
    speed: float | None = None,
    delay: timedelta | None = None,
) -> ReplayPlan:
    """Lay rows on the machine's own clock, from now on.

    Args:
        span: of the rows.
        now: when the first row is sent.
        label_delay: the spec's, which is shortened as the time between rows is.
        rate: rows a second at equal distances.
        speed: times as fast as they happened; either this or the rate.
        delay: of labels, by the clock; overrules the spec's.

    >>> from datetime import UTC
    >>> first, now = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    >>> span = Span(600, first, first + timedelta(days=30))
    >>> plan_machine_time(span, now, timedelta(days=5), rate=10.0).delay
    datetime.timedelta(seconds=10)
    """
    if rate is not None:
        pace: Pace = Evenly(now, timedelta(seconds=1 / rate))
        lasts = timedelta(seconds=span.count / rate)
        faster = max(span.length / lasts, 1.0)
    else:
        faster = speed or 1.0
        pace = AsTimed(span.first, now, faster)
    return ReplayPlan(pace, label_delay / faster if delay is None else delay, now - span.first)


def plan_simulated_time(
    span: Span,
    now: datetime,
    label_delay: timedelta,
    *,
    drive: bool = False,
    rate: float | None = None,
    speed: float | None = None,
    delay: timedelta | None = None,
) -> ReplayPlan:
    """Lay rows on a simulated clock: at their own event times, or all later by one shift where the
    clock is past the first.

    Args:
        span: of the rows.
        now: of the clock.
        label_delay: the spec's.
        drive: whether the replay moves the clock; else it waits for it.
        rate: drives the clock so fast that this many rows a second come on average.
        speed: drives it at this many seconds a second.
        delay: overrules the spec's.
    """
    begin = max(now, span.first)
    pace = AsTimed(span.first, begin)
    shift = begin - span.first
    wanted = label_delay if delay is None else delay
    if not drive:
        return ReplayPlan(pace, wanted, shift)
    if rate is not None:
        speed = max(span.length.total_seconds() / span.count * rate, 1e-3)
    forward = span.first if now < span.first else None
    return ReplayPlan(pace, wanted, shift, drive=True, clock_speed=speed, move_clock_to=forward)
