"""What time it is: the machine's, or a simulated one that every process of a platform shares.

A story of weeks is told in minutes by handing all processes one clock file. Policies, windows and
label delays then stay as they are in the spec, and only the clock runs faster.
"""

import fcntl
import math
import mmap
import os
import struct
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from heliotrope.errors import UsageError
from heliotrope.vocabulary import ENV_CLOCK

_MAGIC = b"HELIOCLK"
_HEAD = struct.Struct("@8sQ")
"""Magic, and a number that rises with each setting; odd ones are in the second slot."""
_SEQUENCE = struct.Struct("@Q")
"""Native, so that it is read and written in one piece."""
_SLOT = struct.Struct("@qqd")
"""The machine's ns, the simulated ns at that moment, speed."""
_SLOTS_AT = (_HEAD.size, _HEAD.size + _SLOT.size)
_BYTES = _HEAD.size + 2 * _SLOT.size
_TRIES = 1000
_FASTEST = 1e9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""Nanoseconds of later ones soon outgrow 64 bits."""


class Clock(Protocol):
    """Tells the time, UTC."""

    def now(self) -> datetime:
        """The time, to the microsecond."""
        ...

    def now_ns(self) -> int:
        """Nanoseconds since 1970."""
        ...


class SystemClock:
    """The machine's clock."""

    # The builtin itself: a predictor asks for each request, and a frame would cost as much again.
    now_ns = staticmethod(time.time_ns)

    def now(self) -> datetime:
        """The time, to the microsecond."""
        return datetime.now(UTC)


class HeldClock:
    """A clock of one process that stands until it is moved, as a simulation steps.

    >>> clock = HeldClock(datetime(2026, 1, 1, tzinfo=UTC))
    >>> clock.move(datetime(2026, 1, 2, tzinfo=UTC))
    >>> clock.now().isoformat()
    '2026-01-02T00:00:00+00:00'
    """

    def __init__(self, at: datetime) -> None:
        self._at = at

    def move(self, at: datetime) -> None:
        """It is this time from now on."""
        self._at = at

    def now(self) -> datetime:
        """The time."""
        return self._at

    def now_ns(self) -> int:
        """Nanoseconds since 1970."""
        return _ns(self._at)

    def monotonic(self) -> float:
        """Seconds, for what paces itself: nothing rests longer than the simulation steps."""
        return self._at.timestamp()


class SimulatedClock:
    """A clock that starts anywhere, runs at any speed and may be paused; shared through a file.

    Reading costs about a microsecond, so a predictor may ask it for each request. A writer that
    is stopped or dies midway changes nothing: the setting before stays in force.

    Args:
        path: written by `set_clock`.

    Raises:
        UsageError: the file is missing or no clock.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), _BYTES, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise _no_clock(path, str(error)) from error
        magic, _ = _HEAD.unpack_from(self._map)
        _, simulated, speed = self.read()
        if magic != _MAGIC or not _is_setting(simulated, speed):
            raise _no_clock(path, "it holds something else")

    def read(self) -> tuple[int, int, float]:
        """The machine's and the simulated nanoseconds when it was last set, and the speed."""
        memory = self._map
        for _ in range(_TRIES):
            (before,) = _SEQUENCE.unpack_from(memory, 8)
            found: tuple[int, int, float] = _SLOT.unpack_from(memory, _SLOTS_AT[before & 1])
            # The slot in force is left alone until two settings later.
            if _SEQUENCE.unpack_from(memory, 8)[0] == before:
                return found
        raise UsageError("The clock must be set less often than it is read. Got no quiet moment.")

    def now_ns(self) -> int:
        """Nanoseconds since 1970."""
        real, simulated, speed = self.read()
        return simulated + int((time.time_ns() - real) * speed)

    def now(self) -> datetime:
        """The time, to the microsecond."""
        return _EPOCH + timedelta(microseconds=self.now_ns() // 1000)

    @property
    def speed(self) -> float:
        """Simulated seconds a second; 0 while paused."""
        return self.read()[2]


def _ns(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def _is_setting(simulated: int, speed: float) -> bool:
    return 0 <= simulated <= _ns(_LATEST) and math.isfinite(speed) and 0 <= speed <= _FASTEST


def _no_clock(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{ENV_CLOCK} must be a clock file, made by `heliotrope up`. Got {path}: {why}."
    )


def set_clock(path: Path, speed: float, at: datetime | None = None) -> None:
    """Make a clock file, or change its speed (0 pauses it), or move it.

    Writers take turns by a lock on the file; readers never wait.

    Args:
        path: of the file.
        speed: simulated seconds a second, 0 or more.
        at: the simulated time from now on; None goes on from where it is.

    Raises:
        UsageError: the speed is negative, there is no time to go on from, the time is not from 1970
            to 2199 or names no zone, or the file is there and no clock.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "clock"
    >>> set_clock(file, 0.0, datetime(2026, 1, 1, tzinfo=UTC))
    >>> SimulatedClock(file).now().isoformat()
    '2026-01-01T00:00:00+00:00'
    """
    if not 0 <= speed <= _FASTEST:
        raise UsageError(f"A clock's speed must be from 0 to 1e9. Got {speed}.")
    if at is not None and (at.tzinfo is None or not _EPOCH <= at < _LATEST):
        raise UsageError(f"A clock's time must be from 1970 to 2199, with its zone. Got {at}.")
    simulated = None if at is None else _ns(at)
    if not path.exists():
        if simulated is None:
            raise UsageError(f"A new clock must be given a time. Got none for {path}.")
        slot = _SLOT.pack(time.time_ns(), simulated, speed)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_bytes(_HEAD.pack(_MAGIC, 0) + slot + slot)
        fresh.replace(path)
        return
    # In place, since readers keep the file mapped.
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        clock = SimulatedClock(path)
        real, before, old_speed = clock.read()
        at_ns = time.time_ns()
        if simulated is None:
            simulated = before + int((at_ns - real) * old_speed)
        with mmap.mmap(file.fileno(), _BYTES) as memory:
            following = _SEQUENCE.unpack_from(memory, 8)[0] + 1
            _SLOT.pack_into(memory, _SLOTS_AT[following & 1], at_ns, simulated, speed)
            _SEQUENCE.pack_into(memory, 8, following)


def clock_of(environ: Mapping[str, str]) -> Clock:
    """The clock that the environment names in HELIOTROPE_CLOCK; the machine's without one."""
    path = environ.get(ENV_CLOCK)
    return SimulatedClock(Path(path)) if path else SystemClock()
