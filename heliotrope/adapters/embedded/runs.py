"""Starts pipeline runs on this machine and watches them."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from heliotrope.adapters.embedded.orphans import signal_orphans
from heliotrope.adapters.embedded.run_detached import BEGAN
from heliotrope.adapters.embedded.run_log import FileRunLog
from heliotrope.domain.run_events import RunEvent
from heliotrope.errors import ConflictError, HeliotropeError
from heliotrope.ports.runs import RunState
from heliotrope.service.run_outcome import REPORT
from heliotrope.vocabulary import ENV_CHILD

ALIVE = "alive"
"""Locked for as long as the run's process lives."""
_RUN = "heliotrope.adapters.embedded.run_pipeline"
_DETACHED = "heliotrope.adapters.embedded.run_detached"
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0
_PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads of a fit wait for each other asleep: where the machine does other things beside, spinning
made a fit of 0.4 s last 50 s."""


class EmbeddedRuns:
    """Pipeline runs as child processes, each with a folder under `home/runs`."""

    def __init__(self, home: Path, compiled: Path, environment: Mapping[str, str]) -> None:
        self._runs = home / "runs"
        self._compiled = compiled
        self._environment = dict(environment)
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._told: dict[str, float] = {}

    def log(self, run_key: str) -> FileRunLog:
        """The log of a run, whether it is there or not."""
        return FileRunLog(self._runs / run_key)

    def run(
        self,
        pipeline: str,
        arguments: Mapping[str, str],
        run_key: str,
        *,
        python_path: Path | None = None,
        on_event: Callable[[RunEvent], None] = lambda _: None,
    ) -> int:
        """Run a compiled pipeline to its end; answers the exit code.

        On KeyboardInterrupt (and SIGTERM turned into one) every process of the run is stopped
        before the exception goes on.

        Args:
            pipeline: file name in the compiled folder.
            arguments: of the pipeline.
            run_key: names the run's folder; taken means ConflictError.
            python_path: where a model's own trainer module is.
            on_event: called for each event, in order.
        """
        source = self._source(pipeline)
        log = self.log(run_key)
        try:
            log.folder.mkdir(parents=True)
        except FileExistsError:
            raise ConflictError(f"A run key names one run. Got {run_key!r} again.") from None
        except OSError as error:
            raise _unwritable(log.folder, error) from error
        child = self._spawn(source, arguments, log.folder, python_path)
        try:
            return self._watch(child, log, on_event)
        except BaseException:
            _stop_group(child)
            raise
        finally:
            log.clear_scratch()

    def start(
        self,
        pipeline: str,
        arguments: Mapping[str, str],
        run_key: str,
        *,
        python_path: Path | None = None,
    ) -> None:
        """Start a run in a session of its own, unless this key names one already.

        The run holds a lock for as long as it lives. So whoever comes later, another controller
        after a crash included, knows whether it lives without trusting a process number.

        Raises:
            HeliotropeError: the folder cannot be written, or the pipeline is not there.
        """
        source, log = self._source(pipeline), self.log(run_key)
        try:
            log.folder.mkdir(parents=True, exist_ok=True)
            with (log.folder / ALIVE).open("ab") as alive:
                if not _locked(alive) or (log.folder / BEGAN).exists():
                    return
                child = self._spawn(source, arguments, log.folder, python_path, alive.fileno())
        except OSError as error:
            raise _unwritable(log.folder, error) from error
        # Kept, so that it is reaped: a child that nobody waits for stays as a zombie.
        self._started[run_key] = child

    def state(self, run_key: str) -> RunState:
        """How far a run that `start` began has come."""
        folder = self.log(run_key).folder
        child = self._started.get(run_key)
        if child is not None:
            child.poll()
        try:
            with (folder / ALIVE).open("rb") as alive:
                living = not _locked(alive)
        except FileNotFoundError:
            return RunState.ABSENT
        if living:
            return RunState.RUNNING
        if not (folder / BEGAN).exists():
            return RunState.ABSENT
        if self._stop_orphans(run_key, folder):
            # A step outlived its run; until it is gone it may still write.
            return RunState.RUNNING
        log = self.log(run_key)
        log.clear_scratch()
        said = log.outcome() is not None and any(e.step == REPORT for e in log.events())
        return RunState.ENDED if said else RunState.DIED

    def _stop_orphans(self, run_key: str, folder: Path) -> bool:
        # SIGTERM once: a step turns it into an orderly end, which another would cut short.
        told = self._told.get(run_key)
        late = told is not None and time.monotonic() - told > _GRACE_SECONDS
        sign = signal.SIGKILL if late else 0 if told is not None else signal.SIGTERM
        found = signal_orphans(folder, sign)
        if found and told is None:
            self._told[run_key] = time.monotonic()
        return found > 0

    def _source(self, pipeline: str) -> Path:
        source = self._compiled / pipeline
        if not source.exists():
            raise HeliotropeError(
                f"The compiled pipeline must exist. Got nothing at {source}; run `make generate`."
            )
        return source

    def _spawn(
        self,
        source: Path,
        arguments: Mapping[str, str],
        folder: Path,
        python_path: Path | None,
        alive: int | None = None,
    ) -> "subprocess.Popen[bytes]":
        try:
            (folder / "arguments.json").write_text(json.dumps(dict(arguments), indent=2))
            (folder / "tmp").mkdir(exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        module = _RUN if alive is None else _DETACHED
        with (folder / "log.txt").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", module, str(source), str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._child_environment(folder, python_path),
                start_new_session=True,
                pass_fds=() if alive is None else (alive,),
            )

    def _watch(
        self, child: subprocess.Popen[bytes], log: FileRunLog, on_event: Callable[[RunEvent], None]
    ) -> int:
        offset, code = 0, None
        while code is None:
            try:
                code = child.wait(timeout=_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                code = None
            events, offset = log.tail(offset)
            for event in events:
                on_event(event)
        return code

    def _child_environment(self, folder: Path, python_path: Path | None) -> dict[str, str]:
        root = str(self._compiled.parent.parent)
        parts = [str(python_path)] if python_path else []
        parts += [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **_PATIENT,
            **os.environ,
            **self._environment,
            "PYTHONPATH": os.pathsep.join(parts),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(folder / "tmp"),
        }
        # A run outlives the controller that started it: when that is killed, the supervisor ends
        # what bears its mark.
        environment.pop(ENV_CHILD, None)
        return environment


def _unwritable(folder: Path, error: OSError) -> HeliotropeError:
    return HeliotropeError(
        f"The run's folder {folder} must be writable. Got: {error.strerror or error}."
    )


def _locked(file: IO[bytes]) -> bool:
    """Whether the lock was free; it is held until the file is closed, by all who have it open."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stop_group(child: subprocess.Popen[bytes]) -> None:
    # SIGTERM first: a step turns it into KeyboardInterrupt and takes back what it half did.
    _signal_group(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while _group_alive(child) and time.monotonic() < deadline:
        # The steps are not our children, so there is nothing to wait on but the group itself.
        time.sleep(_POLL_SECONDS)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _group_alive(child: subprocess.Popen[bytes]) -> bool:
    child.poll()  # reap, so that a zombie does not keep the group alive
    return _signal_group(child.pid, 0)


def _signal_group(group: int, sign: int) -> bool:
    try:
        os.killpg(group, sign)
    except ProcessLookupError:
        return False
    return True
