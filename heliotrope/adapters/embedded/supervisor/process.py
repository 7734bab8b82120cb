"""One child process: started, asked whether it is ready, started again when it ends."""

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from heliotrope.adapters.embedded.supervisor.http import ask
from heliotrope.adapters.embedded.supervisor.leftovers import end_leftovers
from heliotrope.adapters.embedded.supervisor.pulse import pulse_of, still
from heliotrope.vocabulary import ENV_CHILD

logger = logging.getLogger("heliotrope.up")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
HEALTHY_SECONDS = 10.0
"""A child that was ready for this long is started again at once."""
SILENT_SECONDS = 60.0
"""A child that was ready and has not answered for this long is ended and started again."""
HUNG_SECONDS = 8.0
"""A child that was ready and has not answered for this long is not ready any more; a machine that
is busy holds one up for some seconds without harm."""
STILL_SECONDS = 1.5
"""Nor is one that answers by itself, was asked, and has done nothing at all for this long."""
_LOOK_SECONDS = 0.05
_PROBE_SECONDS = 2.0
_PULSE_SECONDS = 0.25
_PATIENCE_SECONDS = 4.0
LOG_BYTES = 8 << 20
_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class ChildState(StrEnum):
    """What a child is doing."""

    STARTING = "starting"
    """It runs and does not answer yet."""
    READY = "ready"
    """It answers."""
    SILENT = "silent"
    """It runs, was ready, and has not answered for a while."""
    WAITING = "waiting"
    """It ended, and is started again after a pause."""
    STOPPED = "stopped"
    """It was told to stop, or was never started."""


@dataclass(frozen=True)
class ChildSpec:
    """How a child is run."""

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Beside the supervisor's own; may hold secrets, so it is never shown."""
    url: str | None = None
    """What a person opens."""
    ready_url: str | None = None
    """Answers 200 once it is ready; without one a child that runs is ready."""
    answers_itself: bool = False
    """The process that is started is the one that answers, so that a request it does not get to
    while it does nothing tells that it hangs."""
    stop_seconds: float = 10.0
    """From SIGTERM to SIGKILL."""


class BackOff:
    """Pauses between starts: none after a healthy life, then 1 s, doubling up to 30 s.

    >>> pauses = BackOff()
    >>> [pauses.after(lived) for lived in (60.0, 0.1, 0.1, 0.1, 60.0)]
    [0.0, 1.0, 2.0, 4.0, 0.0]
    """

    def __init__(self) -> None:
        self._next = 0.0

    def after(self, healthy_seconds: float) -> float:
        """Seconds to wait, after a life that was healthy for so long."""
        if healthy_seconds >= HEALTHY_SECONDS:
            self._next = 0.0
        pause, self._next = self._next, min(max(2 * self._next, FIRST_PAUSE), LONGEST_PAUSE)
        return pause


class Child:
    """Keeps one process running until it is stopped.

    Args:
        spec: answers how it is run now; asked at each start, as a port may have to change.
    """

    def __init__(self, spec: Callable[[], ChildSpec]) -> None:
        self._make = spec
        self.spec = spec()
        self.state = ChildState.STOPPED
        self.restarts = 0
        self.message = ""
        self.started_at = 0.0
        """Seconds since 1970, of the process that runs."""
        self._process: subprocess.Popen[bytes] | None = None
        self._ready_since: float | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def ready(self) -> bool:
        """It answers, as far as is known, and was not told to stop."""
        return (
            self.state is ChildState.READY and self.pid is not None and not self._stopping.is_set()
        )

    def start(self) -> None:
        """Begin to keep it running."""
        self._task = asyncio.create_task(self._keep(), name=self.spec.name)

    async def stop(self) -> None:
        """Ask it to end, make it end after `stop_seconds`; safe to call twice."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _keep(self) -> None:
        pauses = BackOff()
        while not self._stopping.is_set():
            healthy = await self._live()
            if self._stopping.is_set():
                break
            pause = pauses.after(healthy)
            self.state = ChildState.WAITING
            self.restarts += 1
            logger.warning("%s %s; again in %g s.", self.spec.name, self.message, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            # What a killed process leaves may hold its port.
            await end_leftovers({ENV_CHILD: self.spec.environment.get(ENV_CHILD, "")})
        self.state = ChildState.STOPPED

    async def _live(self) -> float:
        """One process, from start to end; answers for how many seconds it was ready."""
        try:
            self.spec = self._make()
            process = self._process = self._spawn()
        except OSError as error:
            self.message = f"could not be started: {error}"
            return 0.0
        self.state, self.started_at, self._ready_since = ChildState.STARTING, time.time(), None
        watching = asyncio.create_task(self._watch(process))
        while process.poll() is None and not self._stopping.is_set():
            await asyncio.sleep(_LOOK_SECONDS)
        watching.cancel()
        if process.poll() is None:
            await self._end(process)
            return 0.0
        words = last_line(self.spec.log) if process.returncode > 0 else ""
        self.message = f"ended {_how(process.returncode)}" + (f": {words}" if words else "")
        return time.monotonic() - self._ready_since if self._ready_since else 0.0

    def _spawn(self) -> subprocess.Popen[bytes]:
        spec = self.spec
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        with spec.log.open("ab") as log:
            return subprocess.Popen(
                spec.command,
                env={**os.environ, **spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own: Ctrl-C is the supervisor's, who ends them in order.
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    async def _watch(self, process: subprocess.Popen[bytes]) -> None:
        heard = time.monotonic()
        pause = _LOOK_SECONDS
        while True:
            answers = await self._answers(process)
            now = time.monotonic()
            if answers:
                heard = now
                self._ready_since, self.message = self._ready_since or now, ""
                self.state, pause = ChildState.READY, self._probe_seconds
            elif self._ready_since is not None and now - heard > SILENT_SECONDS:
                logger.error("%s was silent for %g s; ended.", self.spec.name, now - heard)
                process.kill()
            elif self._ready_since is not None and now - heard > HUNG_SECONDS:
                self._fall_silent(now - heard)
            rotate(self.spec.log)
            await asyncio.sleep(pause)

    @property
    def _probe_seconds(self) -> float:
        return _PROBE_SECONDS / 2 if self.spec.answers_itself else _PROBE_SECONDS

    async def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        """Ask whether it is ready; while it does not answer, see whether it does anything."""
        if self.spec.ready_url is None:
            return True
        asked = asyncio.create_task(ask(self.spec.ready_url, _PATIENCE_SECONDS))
        try:
            if self.spec.answers_itself and self._ready_since is not None:
                await self._feel(process, asked)
            answer = await asked
        finally:
            asked.cancel()
        return answer is not None and answer[0] == 200

    async def _feel(
        self, process: subprocess.Popen[bytes], asked: "asyncio.Task[tuple[int, bytes] | None]"
    ) -> None:
        """Tell that it hangs once it did nothing for a while though it was asked something."""
        began = since = looked = time.monotonic()
        pulse = pulse_of(process.pid)
        while not (await asyncio.wait([asked], timeout=_PULSE_SECONDS))[0]:
            now, before, pulse = time.monotonic(), pulse, pulse_of(process.pid)
            # Where this process was held up itself, it cannot say what the other did.
            if now - looked > 2 * _PULSE_SECONDS or not still(before, pulse):
                since = now
            elif now - since >= STILL_SECONDS and self.state is ChildState.READY:
                self._fall_silent(now - began)
            looked = now

    def _fall_silent(self, seconds: float) -> None:
        self.state, self.message = ChildState.SILENT, f"silent for {seconds:.0f} s"

    async def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        end = time.monotonic() + self.spec.stop_seconds
        while process.poll() is None and time.monotonic() < end:
            await asyncio.sleep(_LOOK_SECONDS)
        if process.poll() is None:
            logger.warning(
                "%s did not end in %g s; killed.", self.spec.name, self.spec.stop_seconds
            )
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _end_with_parent() -> None:
    _LIBC.prctl(_SET_PDEATHSIG, signal.SIGTERM)


def _how(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"


def last_line(log: Path) -> str:
    """The last words of a log, for a person who asks why."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 2000))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""


def rotate(log: Path, most: int = LOG_BYTES) -> None:
    """Keep a log and the one before it, each of about `most` bytes.

    The child keeps its descriptor, which appends, so the file is copied and emptied; a line that
    is written between the two is lost.
    """
    try:
        if log.stat().st_size <= most:
            return
        log.with_name(log.name + ".1").write_bytes(log.read_bytes())
        os.truncate(log, 0)
    except OSError as error:
        logger.warning("The log %s could not be rotated: %s.", log, error.strerror)
