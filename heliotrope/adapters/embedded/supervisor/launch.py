"""Starting a supervisor, once a home, and ending it from outside."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from heliotrope.adapters.embedded.lock_file import LockFile
from heliotrope.adapters.embedded.serving import EmbeddedServing
from heliotrope.adapters.embedded.supervisor.children import UpOptions
from heliotrope.adapters.embedded.supervisor.clock_file import pause_clock, platform_clock
from heliotrope.adapters.embedded.supervisor.first_plan import FirstPlans
from heliotrope.adapters.embedded.supervisor.leftovers import end_leftovers
from heliotrope.adapters.embedded.supervisor.process import last_line
from heliotrope.adapters.embedded.supervisor.state import (
    LOCK_FILE,
    PlatformState,
    folder_of,
    read_state,
    running_supervisor,
    start_ticks,
)
from heliotrope.adapters.embedded.supervisor.supervisor import Supervisor
from heliotrope.clock import SimulatedClock, SystemClock
from heliotrope.errors import HeliotropeError
from heliotrope.settings import Settings
from heliotrope.vocabulary import ENV_PLATFORM

STOP_SECONDS = 60.0
"""For a supervisor to end everything, before it is killed with what it started."""
_LOOK_SECONDS = 0.1


def log_folder(home: Path) -> Path:
    """One file a process, named after it."""
    return folder_of(home) / "logs"


def run_platform(
    settings: Settings,
    options: UpOptions,
    champion: Callable[[str], str],
    commands: dict[str, str],
    time_of: tuple[float | None, datetime | None],
    tell: Callable[[PlatformState], None],
) -> bool:
    """Run a platform until it is stopped; False, with nothing done, where another one runs.

    Args:
        settings: where things are.
        options: what to run.
        champion: the registry's, by model; NotFoundError where it has none.
        commands: what trains each model.
        time_of: speed and start of a simulated clock, None where not asked for.
        tell: called with each new state.
    """
    lock = LockFile(folder_of(settings.home) / LOCK_FILE)
    if not lock.take():
        return False
    _log_to(log_folder(settings.home) / "supervisor.log")
    clock = platform_clock(folder_of(settings.home), *time_of)
    try:
        first = FirstPlans(
            EmbeddedServing(settings.home),
            SimulatedClock(clock) if clock else SystemClock(),
            champion,
            commands,
        )
        asyncio.run(_run(settings, options, first, clock, tell))
    finally:
        pause_clock(clock)
        lock.release()
    return True


async def _run(
    settings: Settings,
    options: UpOptions,
    first: FirstPlans,
    clock: Path | None,
    tell: Callable[[PlatformState], None],
) -> None:
    await Supervisor(settings, options, first, clock, tell).run()


def start_in_background(
    home: Path, arguments: Sequence[str], seconds: float
) -> tuple[PlatformState | None, str]:
    """Run `heliotrope up` behind this process; answers when all is ready, or the time is over.

    Returns:
        The last state, and why there is none where it could not start.
    """
    log = log_folder(home) / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "heliotrope", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    end = time.monotonic() + seconds
    state = None
    while time.monotonic() < end:
        state = running_supervisor(home)
        if state is not None and state.ready:
            break
        if process.poll() is not None and state is None:
            return None, last_line(log)
        time.sleep(_LOOK_SECONDS)
    return state, "" if state else f"it has not begun in {seconds:g} s"


def stop_platform(home: Path) -> bool:
    """End the platform of a home and what a killed one left; False where nothing ran.

    Raises:
        HeliotropeError: it cannot be ended.
    """
    state = read_state(home)
    alive = state is not None and start_ticks(state.pid) == state.ticks
    if state is not None and alive:
        with suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)
        if not _ended(state, STOP_SECONDS):
            os.kill(state.pid, signal.SIGKILL)
            if not _ended(state, STOP_SECONDS):
                raise HeliotropeError(f"Process {state.pid} must end. It does not.")
    left = asyncio.run(end_leftovers({ENV_PLATFORM: str(home)}))
    return alive or bool(left)


def _ended(state: PlatformState, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if start_ticks(state.pid) != state.ticks:
            return True
        time.sleep(_LOOK_SECONDS)
    return False


def _log_to(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("heliotrope.up")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
