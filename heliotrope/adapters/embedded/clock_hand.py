"""Driving the platform's clock, and seeing what it should wait for."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from heliotrope.adapters.embedded.run_log import FileRunLog
from heliotrope.clock import SimulatedClock, set_clock

HOLD_AT_MOST = 600.0
"""Seconds of the machine that one training run may hold the clock; a killed one never ends."""


class FileClockHand:
    """Runs and holds a clock file (`service.replay.ClockHand`).

    Args:
        path: of the file.
        tempo: simulated seconds a second while it runs, asked again and again.
    """

    def __init__(self, path: Path, tempo: Callable[[], float]) -> None:
        self._path, self._tempo = path, tempo
        self._before = SimulatedClock(path).speed

    @property
    def speed(self) -> float:
        """Simulated seconds a second while it runs."""
        return self._tempo()

    def move_to(self, moment: datetime) -> None:
        """Set the clock, standing still."""
        set_clock(self._path, 0.0, moment)

    def run(self) -> None:
        """Let it run."""
        set_clock(self._path, self.speed)

    def hold(self) -> None:
        """Let it stand still."""
        set_clock(self._path, 0.0)

    def restore(self) -> None:
        """As fast as it was before it was driven."""
        set_clock(self._path, self._before)


class TrainingWatch:
    """Whether a training run goes on, of those that began since this watch did.

    Args:
        runs: folder of the runs.
        timer: seconds, only ever rising.
    """

    def __init__(self, runs: Path, timer: Callable[[], float] = time.monotonic) -> None:
        self._runs, self._timer = runs, timer
        self._seen: dict[str, float] = {}
        """When each open run was first seen; infinitely long ago where it was there before."""
        for name in self._open_runs():
            self._seen[name] = float("-inf")

    def busy(self) -> bool:
        """Whether one goes on."""
        now, open_runs = self._timer(), self._open_runs()
        for name in open_runs:
            self._seen.setdefault(name, now)
        return any(now - self._seen[name] < HOLD_AT_MOST for name in open_runs)

    def _open_runs(self) -> list[str]:
        try:
            folders = [folder for folder in self._runs.iterdir() if folder.is_dir()]
        except FileNotFoundError:
            return []
        return [folder.name for folder in folders if FileRunLog(folder).outcome() is None]
