"""The platform in memory behind KServe: its versions run in pods of an emulated cluster.

What is asked for goes through `KServeServing`, over HTTP, to an emulated API server and controller;
what versions do to their requests is `MemoryServing`'s, as are users, replay and counts.
"""

from collections.abc import Callable, Sequence
from itertools import count
from urllib.parse import urlsplit

from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kserve import KServeServing
from heliotrope.adapters.cluster.kube_login import client_of
from heliotrope.adapters.embedded.memory_outcomes import MemoryOutcomes
from heliotrope.adapters.embedded.memory_serving import Behaviour, MemoryServing, _Running
from heliotrope.adapters.inference_service import ServedAs, ServingMode
from heliotrope.domain.serving_plan import ObservedServing, ServingPlan
from heliotrope.ports.replay import LoggedRequest, Replayed
from heliotrope.vocabulary import Role
from tests.emulated.apiserver import ApiServer
from tests.emulated.kserve_controller import KServe
from tests.emulated.object_store import Object

ROUNDS = 4
"""Of the controllers, within the time in which a pod makes one step."""


class MemoryPod:
    """A version that runs in the memory platform; see `kserve_controller.Pod`."""

    message = ""

    def __init__(self, platform: "KServeMemory", version: str, port: int) -> None:
        self._platform, self.version, self.port = platform, version, port
        platform.pods[port] = self
        platform._running.setdefault(version, _Running(Role.SHADOW))

    @property
    def _running(self) -> _Running:
        return self._platform._running[self.version]

    @property
    def ready(self) -> bool:
        return self._platform._ready(self.version)

    @property
    def restarts(self) -> int:
        return self._running.restarts

    def step(self, role: str | None) -> None:
        """The kubelet has written the role."""
        if role is not None:
            self._running.role = Role(role)

    def stop(self) -> None:
        """It is deleted; the version runs on where another pod of it does."""
        del self._platform.pods[self.port]
        if self.version not in {pod.version for pod in self._platform.pods.values()}:
            del self._platform._running[self.version]


class KServeMemory(MemoryServing):
    """`MemoryServing`, asked through KServe.

    Args:
        mode: KServe's.
        behaviours, log, now: as `MemoryServing` has them.
    """

    def __init__(
        self,
        mode: ServingMode,
        behaviours: dict[str, Behaviour],
        log: MemoryOutcomes,
        now: Callable[..., object],
    ) -> None:
        super().__init__(behaviours, log, now)  # type: ignore[arg-type]
        self.pods: dict[int, MemoryPod] = {}
        self.api, ports = ApiServer().start(), count(20_000)

        def make(model: str, version: str, predictor: Object) -> MemoryPod:
            return MemoryPod(self, version, next(ports))

        self.controller = KServe(self.api, make, lambda host: f"memory://gateway/{host}")
        self.kserve = KServeServing(
            client_of(self.api.url, Account.CONTROLLER, "shop"),
            ServedAs(mode, "shop"),
            lambda model, version: f"s3://models/{model}/{version}",
            role_of=self._role_of,
            service_url=lambda service, _: f"memory://services/{service}",
            linger=0.0,
        )

    def apply(self, plan: ServingPlan) -> None:
        """As the port says."""
        self._require()
        self.kserve.apply(plan)
        self.applied.append(plan)

    def plan(self, model: str) -> ServingPlan | None:
        """As the port says."""
        self._require()
        return self.kserve.plan(model)

    def observe(self, model: str) -> ObservedServing | None:
        """As the port says."""
        self._require()
        return self.kserve.observe(model)

    def carry_out(self) -> None:
        """A step of every pod, and time enough for the controllers to see it."""
        for running in self._running.values():
            running.rounds += 1
        for _ in range(ROUNDS):
            self.controller.round()
        self._weights = {}
        for share, work in self.controller.routes.get("loans", []):
            if share:
                self._weights[work.version] = self._weights.get(work.version, 0) + share

    def ask(
        self, address: str, model: str, requests: Sequence[LoggedRequest], seconds: float
    ) -> list[Replayed]:
        """As the port says."""
        host = address.rpartition("/")[2]
        version = self.controller.routes[host][0][1].version
        return super().ask(f"memory://{version}", model, requests, seconds)

    def close(self) -> None:
        """Stop the server."""
        self.api.stop()

    def _role_of(self, url: str) -> Role | None:
        return self.pods[urlsplit(url).port or 0]._running.role
