"""KServe emulated over HTTP, with real predictors below it: where the serving port is tried."""

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event, Thread

from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kserve import KServeServing
from heliotrope.adapters.cluster.kserve_looking import served_kinds
from heliotrope.adapters.cluster.kube_login import client_of
from heliotrope.adapters.cluster.watched_objects import WatchedObjects
from heliotrope.adapters.inference_service import ServedAs, ServingMode
from heliotrope.vocabulary import ONNX_FILE
from tests.emulated.apiserver import ApiServer
from tests.emulated.fronts import Fronts
from tests.emulated.kserve_controller import KServe
from tests.emulated.object_store import Object
from tests.emulated.process_pods import ProcessPod

ROUND_SECONDS = 0.05


@dataclass
class KServePlace:
    """A cluster's worth."""

    serving: KServeServing
    controller: KServe
    api: ApiServer
    models: Path
    template: Path

    def offer(self, model: str, version: str) -> None:
        """Put a version into the object store."""
        shutil.copytree(self.template, self.models / model / version)

    def spoil(self, model: str, version: str) -> None:
        """Put one there that cannot be run."""
        self.offer(model, version)
        (self.models / model / version / ONNX_FILE).write_bytes(b"no model")


@contextmanager
def kserve_place(mode: ServingMode, template: Path, folder: Path) -> Iterator[KServePlace]:
    """A cluster in a mode that runs by itself until the end."""
    api, numbers = ApiServer().start(), count(1)

    busy: Counter[int] = Counter()
    pods: list[ProcessPod] = []

    def idle(port: int) -> bool:
        with api.lock:
            return busy[port] == 0

    def done(port: int) -> None:
        with api.lock:
            busy[port] -= 1

    def make(model: str, version: str, predictor: Object) -> ProcessPod:
        home = folder / "pods" / f"{model}-{version}-{next(numbers)}"
        pods.append(ProcessPod(home, model, predictor, idle))
        return pods[-1]

    def pick(host: str, draw: float) -> int | None:
        with api.lock:
            edge = 0
            for share, work in controller.routes.get(host, []):
                edge += share
                if draw < edge and work.ready:
                    busy[work.ready[0].port] += 1
                    return work.ready[0].port
                if draw < edge:
                    return None
        return None

    fronts = Fronts(pick, done)
    controller = KServe(api, make, fronts.url)
    models = folder / "models"
    kube = client_of(api.url, Account.CONTROLLER, "shop")
    copies = WatchedObjects(kube, served_kinds(mode))
    serving = KServeServing(
        kube,
        ServedAs(mode, "shop"),
        lambda model, version: (models / model / version).as_uri(),
        watched=copies,
        service_url=lambda service, _: fronts.url(service),
        linger=0.2,
    )
    ended = Event()

    def run() -> None:
        while not ended.wait(ROUND_SECONDS):
            controller.round()

    thread = Thread(target=run)
    thread.start()
    try:
        yield KServePlace(serving, controller, api, models, template)
    finally:
        copies.close()
        ended.set()
        thread.join()
        controller.stop()
        for pod in pods:
            pod.join()
        fronts.stop()
        api.stop()
