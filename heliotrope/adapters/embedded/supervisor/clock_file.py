"""The platform's clock: the machine's, or a simulated one that survives `down` and `up`."""

import json
from datetime import UTC, datetime
from pathlib import Path

from heliotrope.clock import set_clock

_FILE, _SPEED = "clock", "clock.json"


def platform_clock(folder: Path, speed: float | None, start: datetime | None) -> Path | None:
    """The clock's file for this run; None where the machine's clock is used.

    A home that was once simulated stays so: without a speed its clock goes on, from where `down`
    stopped it and as fast as before. Otherwise its tables would hold two orders of time.

    Raises:
        UsageError: the speed is out of bounds, or the file is no clock.
    """
    path = folder / _FILE
    if speed is None and start is None and not path.exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    if speed is None:
        speed = _last_speed(folder)
    if start is None and not path.exists():
        start = datetime.now(UTC)
    set_clock(path, speed, start)
    (folder / _SPEED).write_text(json.dumps({"speed": speed}))
    return path


def clock_path(folder: Path) -> Path | None:
    """The clock's file, for who drives it; None where the machine's clock is used."""
    path = folder / _FILE
    return path if path.exists() else None


def pause_clock(path: Path | None) -> None:
    """Stop time while nothing runs."""
    if path is not None:
        set_clock(path, 0.0)


def _last_speed(folder: Path) -> float:
    try:
        return float(json.loads((folder / _SPEED).read_text())["speed"])
    except (OSError, ValueError, KeyError, TypeError):
        return 1.0
