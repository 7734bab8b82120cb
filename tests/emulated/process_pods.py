"""Pods that are real predictor processes, started again when they end, as the kubelet does."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

from heliotrope.adapters.embedded.free_port import free_port
from heliotrope.vocabulary import ENV_COLLECTOR_URL, ENV_HOME, ENV_ROLE_FILE
from tests.emulated.object_store import Object

_TAIL = 2000


class ProcessPod:
    """One predictor; see `kserve_controller.Pod`."""

    def __init__(
        self, folder: Path, model: str, predictor: Object, idle: Callable[[int], bool]
    ) -> None:
        folder.mkdir(parents=True)
        self._idle = idle
        self._leaving: Thread | None = None
        self.ready, self.restarts, self.message = False, 0, ""
        self.port = free_port()
        self._folder, self._model = folder, model
        self._log = folder / "log"
        source = urlsplit(predictor["model"]["storageUri"])
        asked = {one["name"]: one["value"] for one in predictor["model"]["env"]}
        # The mounted ConfigMap: a file of the same name.
        self._role = folder / Path(asked[ENV_ROLE_FILE]).name
        asked[ENV_ROLE_FILE] = str(self._role)
        left = {k: v for k, v in os.environ.items() if k not in (ENV_HOME, ENV_COLLECTOR_URL)}
        self._environment = {**left, **asked, "OMP_NUM_THREADS": "1"}
        self._command = [
            *(sys.executable, "-m", "predictors", f"--model_name={model}"),
            *(f"--model_dir={source.path}", f"--http_port={self.port}"),
            *(f"--grpc_port={free_port()}", "--spool_dir=off", "--grace_seconds=1"),
        ]
        self._again = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def step(self, role: str | None) -> None:
        """As the kubelet: write the role, start, probe, start again after a while."""
        if role is None:
            self._role.unlink(missing_ok=True)
        elif not self._role.exists() or self._role.read_text() != role:
            fresh = self._role.with_suffix(".new")
            fresh.write_text(role)
            fresh.replace(self._role)
        if self._process is None:
            if time.monotonic() >= self._again:
                self._start()
        elif self._process.poll() is not None:
            self.message = self._log.read_text()[-_TAIL:]
            self.ready, self._process = False, None
            self.restarts += 1
            self._again = time.monotonic() + min(2.0, 0.2 * 2**self.restarts)
        else:
            self.ready = self._probe()

    def stop(self) -> None:
        """Deleted: as after its preStop, it is ended when no request is on its way to it."""
        self.ready = False
        self._leaving = Thread(target=self._leave)
        self._leaving.start()

    def join(self) -> None:
        """Wait until it has ended, where it was deleted."""
        if self._leaving is not None:
            self._leaving.join()

    def _leave(self) -> None:
        end = time.monotonic() + 60
        while not self._idle(self.port) and time.monotonic() < end:
            time.sleep(0.01)
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    def _start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log
            )

    def _probe(self) -> bool:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            link.request("GET", f"/v2/models/{self._model}/ready")
            return link.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            link.close()
