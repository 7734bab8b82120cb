"""Starts pipeline runs on this machine and watches them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from heliotrope.adapters.embedded.run_log import FileRunLog
from heliotrope.domain.run_events import RunEvent
from heliotrope.errors import ConflictError, HeliotropeError

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0


class EmbeddedRuns:
    """Pipeline runs as child processes, each with a folder under `home/runs`."""

    def __init__(self, home: Path, compiled: Path, environment: Mapping[str, str]) -> None:
        self._runs = home / "runs"
        self._compiled = compiled
        self._environment = dict(environment)

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
        source = self._compiled / pipeline
        if not source.exists():
            raise HeliotropeError(
                f"The compiled pipeline must exist. Got nothing at {source}; run `make generate`."
            )
        log = self.log(run_key)
        try:
            log.folder.mkdir(parents=True)
        except FileExistsError:
            raise ConflictError(f"A run key names one run. Got {run_key!r} again.") from None
        except OSError as error:
            raise _unwritable(log.folder, error) from error
        try:
            (log.folder / "arguments.json").write_text(json.dumps(dict(arguments), indent=2))
            (log.folder / "tmp").mkdir()
        except OSError as error:
            raise _unwritable(log.folder, error) from error
        with (log.folder / "log.txt").open("wb") as output:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "heliotrope.adapters.embedded.run_pipeline",
                    str(source),
                    str(log.folder),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._child_environment(log.folder, python_path),
                start_new_session=True,
            )
            try:
                return self._watch(child, log, on_event)
            except BaseException:
                _stop_group(child)
                raise
            finally:
                log.clear_scratch()

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
        return {
            **os.environ,
            **self._environment,
            "PYTHONPATH": os.pathsep.join(parts),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(folder / "tmp"),
        }


def _unwritable(folder: Path, error: OSError) -> HeliotropeError:
    return HeliotropeError(
        f"The run's folder {folder} must be writable. Got: {error.strerror or error}."
    )


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
