"""What time it is: the machine's, or a simulated one that every process of a platform shares.

A story of weeks is told in minutes by handing all processes one clock file. Policies, windows and
label delays then stay as they are in the spec, and only the clock runs faster.
"""

import mmap
import os
import struct
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from heliotrope.errors import UsageError
from heliotrope.vocabulary import ENV_CLOCK

_LAYOUT = struct.Struct("<Qqqd")
"""Sequence (odd while it is written), the machine's ns, the simulated ns at that moment, speed."""
_TRIES = 1000


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

    def now(self) -> datetime:
        """The time, to the microsecond."""
        return datetime.now(UTC)

    def now_ns(self) -> int:
        """Nanoseconds since 1970."""
        return time.time_ns()


class SimulatedClock:
    """A clock that starts anywhere, runs at any speed and may be paused; shared through a file.

    Reading costs about a microsecond, so a predictor may ask it for each request.

    Args:
        path: written by `set_clock`.

    Raises:
        UsageError: the file is missing or no clock.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), _LAYOUT.size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{ENV_CLOCK} must be a clock file, made by `heliotrope up`. Got {path}: {error}."
            ) from error

    def read(self) -> tuple[int, int, float]:
        """The machine's and the simulated nanoseconds when it was last set, and the speed."""
        for _ in range(_TRIES):
            before, real, simulated, speed = _LAYOUT.unpack_from(self._map)
            if before % 2 == 0 and _LAYOUT.unpack_from(self._map)[0] == before:
                return real, simulated, speed
        raise UsageError("The clock file must not be written all the time. Its writer died midway.")

    def now_ns(self) -> int:
        """Nanoseconds since 1970."""
        real, simulated, speed = self.read()
        return simulated + int((time.time_ns() - real) * speed)

    def now(self) -> datetime:
        """The time, to the microsecond."""
        return datetime.fromtimestamp(self.now_ns() // 1000 / 1e6, UTC)

    @property
    def speed(self) -> float:
        """Simulated seconds a second; 0 while paused."""
        return self.read()[2]


def set_clock(path: Path, speed: float, at: datetime | None = None) -> None:
    """Make a clock file, or change its speed (0 pauses it), or move it. For one writer at a time.

    Args:
        path: of the file.
        speed: simulated seconds a second, 0 or more.
        at: the simulated time from now on; None goes on from where it is.

    Raises:
        UsageError: the speed is negative, or there is no time to go on from.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "clock"
    >>> set_clock(file, 0.0, datetime(2026, 1, 1, tzinfo=UTC))
    >>> SimulatedClock(file).now().isoformat()
    '2026-01-01T00:00:00+00:00'
    """
    if not 0 <= speed <= 1e9:
        raise UsageError(f"A clock's speed must be from 0 to 1e9. Got {speed}.")
    if at is None and not path.exists():
        raise UsageError(f"A new clock must be given a time. Got none for {path}.")
    simulated = SimulatedClock(path).now_ns() if at is None else int(at.timestamp() * 1e6) * 1000
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_bytes(_LAYOUT.pack(0, time.time_ns(), simulated, speed))
        fresh.replace(path)
        return
    with path.open("r+b") as file, mmap.mmap(file.fileno(), _LAYOUT.size) as memory:
        # In place, since readers keep the file mapped; an odd sequence tells them to look again.
        sequence = _LAYOUT.unpack_from(memory)[0] | 1
        struct.pack_into("<Q", memory, 0, sequence)
        struct.pack_into("<qqd", memory, 8, time.time_ns(), simulated, speed)
        struct.pack_into("<Q", memory, 0, sequence + 1)


def clock_of(environ: Mapping[str, str]) -> Clock:
    """The clock that the environment names in HELIOTROPE_CLOCK; the machine's without one."""
    path = environ.get(ENV_CLOCK)
    return SimulatedClock(Path(path)) if path else SystemClock()
