"""A cluster whose pods are ready when the test says so, moved on by hand, one round at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from urllib.parse import urlsplit

from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kserve import KServeServing
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_login import client_of
from heliotrope.adapters.cluster.watched_objects import WatchedObjects
from heliotrope.adapters.inference_service import ServedAs, ServingMode
from heliotrope.domain.serving_plan import ObservedServing, Revision, ServingPlan
from heliotrope.vocabulary import Role
from tests.emulated.apiserver import ApiServer, Rule
from tests.emulated.kserve_controller import KServe
from tests.emulated.object_store import Object

AT = datetime(2026, 3, 1, tzinfo=UTC)
MODEL = "loans"


@dataclass
class Pod:
    """Ready after some rounds; see `kserve_controller.Pod`."""

    version: str
    port: int
    rounds: int
    ready: bool = False
    restarts: int = 0
    message: str = ""
    role: Role = Role.SHADOW
    stopped: bool = False

    def step(self, role: str | None) -> None:
        self.rounds -= 1
        self.ready = self.rounds <= 0
        self.role = Role(role) if role else self.role

    def stop(self) -> None:
        self.ready, self.stopped = False, True


@dataclass
class Cluster:
    """An emulated cluster and a serving port on it."""

    mode: ServingMode
    replicas: int = 1
    rules: Mapping[str, Sequence[Rule]] | None = None
    token: str = "controller"
    ready_after: dict[str, int] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    uris: list[str] = field(default_factory=list)
    """Versions that the registry was asked for."""

    def __post_init__(self) -> None:
        self.api, self._ports = ApiServer(rules=self.rules).start(), count(20_000)
        self.controller = KServe(self.api, self._make, lambda host: f"http://{host}")
        self.serving = self.connect()

    def kube(self) -> KubeClient:
        """A client as the controller."""
        return client_of(self.api.url, Account.CONTROLLER, "shop", token=self.token, patience=5)

    def connect(
        self, kube: KubeClient | None = None, watched: WatchedObjects | None = None
    ) -> KServeServing:
        """A new process: it knows what is in the cluster, and nothing else."""
        return KServeServing(
            kube or self.kube(),
            ServedAs(self.mode, "shop", replicas=self.replicas),
            self._uri,
            watched=watched,
            role_of=self._role_of,
            linger=0.0,
        )

    def round(self, times: int = 1) -> None:
        """The cluster moves on."""
        for _ in range(times):
            self.controller.round()

    def settle(self, plan: ServingPlan, most: int = 60) -> ObservedServing:
        """Ask for a plan, and look until it is carried out."""
        self.serving.apply(plan)
        return self.until(lambda seen: seen.settled, most)

    def until(self, check: Callable[[ObservedServing], bool], most: int = 60) -> ObservedServing:
        """Look until something is so."""
        for _ in range(most):
            seen = self.serving.observe(MODEL)
            assert seen is not None
            if check(seen):
                return seen
            self.round()
        raise AssertionError(f"not within {most} rounds: {seen}")

    def alive(self, version: str) -> list[Pod]:
        """A version's pods."""
        return [pod for pod in self.pods if pod.version == version and not pod.stopped]

    def made(self, version: str) -> int:
        """How many pods of it were ever made."""
        return sum(pod.version == version for pod in self.pods)

    def served(self) -> dict[str, int]:
        """Per cent by version, as the gateway splits now."""
        found: dict[str, int] = {}
        for share, work in self.controller.routes.get(MODEL, []):
            if share:
                found[work.version] = found.get(work.version, 0) + share
        return found

    def isvc(self) -> Object:
        """The InferenceService."""
        found = self.api.find("inferenceservices", MODEL)
        assert found is not None
        return found

    def _make(self, model: str, version: str, predictor: Object) -> Pod:
        pod = Pod(version, next(self._ports), self.ready_after.get(version, 1))
        self.pods.append(pod)
        return pod

    def _uri(self, model: str, version: str) -> str:
        self.uris.append(version)
        return f"s3://models/{model}/{version}"

    def _role_of(self, url: str) -> Role | None:
        port = urlsplit(url).port
        return next((pod.role for pod in self.pods if pod.port == port), None)


def plan(roles: dict[str, Role], model: str = MODEL, **weights: int) -> ServingPlan:
    """A plan; weights by `v<version>`."""
    return ServingPlan(
        model=model,
        revisions=tuple(Revision(version=v, role=role) for v, role in roles.items()),
        weights={name.removeprefix("v"): share for name, share in weights.items()},
        at=AT,
        reason="a test",
    )


ONE = plan({"1": Role.CHAMPION}, v1=100)
DARK = plan({"1": Role.CHAMPION, "2": Role.SHADOW}, v1=100, v2=0)
HALF = plan({"1": Role.CHAMPION, "2": Role.CANARY}, v1=50, v2=50)
FULL = plan({"1": Role.SHADOW, "2": Role.CANARY}, v1=0, v2=100)
BAKE = plan({"1": Role.SHADOW, "2": Role.CHAMPION}, v1=0, v2=100)
TWO = plan({"2": Role.CHAMPION}, v2=100)
WAY = (ONE, DARK, HALF, FULL, BAKE, TWO)
