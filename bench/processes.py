"""Starting servers as real processes on free ports, for benchmarks and tests."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    """Have Linux kill this process when the one that started it is gone, however it went."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class ServerProcess:
    """A server in a process of its own; its output goes to a file.

    It is killed when its parent is, so that an interrupted test leaves nothing running.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        ready_path: str,
        log: Path,
        *,
        folder: Path | None = None,
        before: Callable[[], None] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.port = port
        self.log = log
        self._ready = f"http://127.0.0.1:{port}{ready_path}"
        env = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }

        def prepare() -> None:
            _die_with_parent()
            if before is not None:
                before()

        with log.open("ab") as out:
            self.process = subprocess.Popen(
                list(command),
                stdout=out,
                stderr=out,
                cwd=folder,
                env=env,
                preexec_fn=prepare,
                start_new_session=True,
            )

    def wait_ready(self, seconds: float = 60.0) -> Self:
        """Return when the readiness path answers 200; an error with the log otherwise."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(self._ready, timeout=2) as answer:
                    if answer.status == 200:
                        return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError(f"not ready: {self.log.read_text()[-3000:]}")

    def cpu_seconds(self) -> float:
        """CPU time of the process and its children so far."""
        return sum(_cpu_seconds(pid) for pid in _tree(self.process.pid))

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        """Signal the process (its group when it is to be killed) and wait for its exit code."""
        if self.process.poll() is None:
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise

    def __enter__(self) -> Self:
        """Itself, once it is ready."""
        try:
            return self.wait_ready()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it, whatever happened."""
        if self.process.poll() is None:
            self.stop(signal.SIGTERM)


class PredictorProcess(ServerProcess):
    """Our predictor over a model folder."""

    def __init__(
        self,
        model_dir: Path,
        work: Path,
        *flags: str,
        spool: Path | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.grpc_port = free_port()
        self.spool = spool or work / "spool"
        port = free_port()
        command = [
            *(sys.executable, "-m", "predictors", "--model_name", "loans"),
            *("--model_dir", str(model_dir), "--http_port", str(port)),
            *("--grpc_port", str(self.grpc_port), "--spool_dir", str(self.spool), *flags),
        ]
        log = work / "predictor.log"
        super().__init__(command, port, "/v2/health/ready", log, folder=work, before=before)


def _tree(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [c for t in tasks for c in (t / "children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(p for child in children for p in _tree(int(child)))]


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
