"""A local MLflow tracking server and UI as a child process."""

import os
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import stamina

from heliotrope.adapters.embedded.free_port import free_port
from heliotrope.adapters.mlflow_link import quiet_environment
from heliotrope.errors import HeliotropeError

STARTUP_SECONDS = 90.0


class _NotUp(Exception):
    """It does not answer yet."""


class MlflowServer:
    """`mlflow server` over one database; a context manager that ends it.

    Args:
        uri: the backend store, such as sqlite:///path.
        host: address to listen on.
        port: 0 takes a free one.
        options: more arguments of `mlflow server`.

    Raises:
        HeliotropeError: on entering, when it ends or does not answer; with its last words.
    """

    def __init__(
        self, uri: str, host: str = "127.0.0.1", port: int = 0, options: Sequence[str] = ()
    ) -> None:
        self._uri, self._host, self._options = uri, host, tuple(options)
        self._port = port or free_port(host)
        self.url = f"http://{host}:{self._port}"

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self._uri]
        command += ["--host", self._host, "--port", str(self._port), "--workers", "1"]
        command += self._options
        # Evaluation jobs of MLflow's own, which nobody here starts.
        quiet = {**quiet_environment(), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **quiet},
            start_new_session=True,
        )
        try:
            for attempt in stamina.retry_context(
                on=_NotUp,
                attempts=None,
                timeout=STARTUP_SECONDS,
                wait_initial=0.2,
                wait_max=0.5,
                wait_jitter=0.1,
            ):
                with attempt:
                    self._ask()
        except BaseException as error:
            words = self._last_words()
            self.close()
            if isinstance(error, _NotUp):
                raise HeliotropeError(
                    f"MLflow must answer at {self.url} within {STARTUP_SECONDS:g} s. "
                    f"It said: {words}"
                ) from None
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()

    @property
    def pid(self) -> int:
        """Leader of its process group."""
        return self._process.pid

    def wait(self) -> None:
        """Until it ends; HeliotropeError when it ended by itself."""
        code = self._process.wait()
        raise HeliotropeError(f"MLflow must run on. It ended with {code}: {self._last_words()}")

    def close(self) -> None:
        """End the server and its workers; safe to call twice."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                # Its state is in the database; nothing is lost.
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._log.close()

    def _ask(self) -> None:
        if self._process.poll() is not None:
            raise HeliotropeError(
                f"MLflow must start. It ended with {self._process.returncode}: {self._last_words()}"
            )
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError) as error:
            raise _NotUp from error

    def _last_words(self) -> str:
        if self._log.closed:
            return ""
        self._log.seek(0)
        return self._log.read()[-1500:].decode(errors="replace").strip()
