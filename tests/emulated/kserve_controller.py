"""KServe's controller, the deployments or revisions below it, and the kubelet, one round at a time.

Written after KServe's source. What matters to whoever moves traffic is kept: a canary's Deployment
lives on when it becomes the stable one, whose former Deployment goes before the new one is scaled;
only ready canaries get traffic, and are subtracted from the stable minReplicas; Knative's status is
seen a round late; `latestRolledoutRevision` moves at exactly 100 and back when that is lowered;
`observedGeneration` is the child's.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from tests.emulated.apiserver import ApiServer
from tests.emulated.object_store import Key, Object

GROUP = "serving.kserve.io"
MODE = f"{GROUP}/deploymentMode"
VERSION = "heliotrope.dev/version"
_UIDS = count(1)


class Pod(Protocol):
    """What runs in a pod: a process, or what stands for one."""

    ready: bool
    restarts: int
    message: str
    port: int

    def step(self, role: str | None) -> None:
        """A round passed; the kubelet has put this in its role file."""
        ...

    def stop(self) -> None:
        """It is deleted."""
        ...


class MakePod(Protocol):
    """Starts one: model, version, what runs it."""

    def __call__(self, model: str, version: str, predictor: Object) -> Pod:
        """The pod."""
        ...


@dataclass
class Workload:
    """A Deployment, or a revision's: pods of one template."""

    name: str
    version: str
    template: Object
    pods: list[tuple[str, Pod]] = field(default_factory=list)
    generation: int = 1

    @property
    def ready(self) -> list[Pod]:
        """Pods that take requests."""
        return [pod for _, pod in self.pods if pod.ready]


class KServe:
    """The controller of one API server.

    Args:
        api: the server.
        make: starts a pod.
        url_of: where a host of the gateway, or a Service, answers.
    """

    def __init__(self, api: ApiServer, make: MakePod, url_of: Callable[[str], str]) -> None:
        self.api, self._make, self._url_of = api, make, url_of
        api.admit = admit
        self.workloads: dict[str, dict[str, Workload]] = {}
        """By model and name."""
        self.routes: dict[str, list[tuple[int, Workload]]] = {}
        """By host: per cent and who takes it."""
        self._numbers: dict[str, int] = {}
        self.killed_before_ready: list[str] = []
        """Deployments that were deleted while what follows them had no pod to take over."""

    def round(self) -> None:
        """Everybody looks once and does what is due."""
        with self.api.lock:
            here = self.api.every("inferenceservices")
            for isvc in here:
                mode = isvc["metadata"]["annotations"][MODE]
                (self._standard if mode == "Standard" else self._knative)(isvc)
            named = {isvc["metadata"]["name"] for isvc in here}
            for model in self.workloads.keys() - named:
                for name in list(self.workloads[model]):
                    self._remove(model, name)
            self._kubelet()

    def stop(self) -> None:
        """End every pod."""
        for model, every in self.workloads.items():
            for name in list(every):
                self._remove(model, name)

    def _standard(self, isvc: Object) -> None:
        model, spec = isvc["metadata"]["name"], isvc["spec"]
        stable, canaries = spec["predictor"], spec.get("canary") or []
        mine = self.workloads.setdefault(model, {})
        host = _service(model, stable["name"])
        statuses = []
        for canary in canaries:
            merged = _merge(stable, canary["predictor"])
            pods = canary["predictor"].get("minReplicas")
            if pods is None:
                pods = math.ceil(stable.get("minReplicas", 1) * canary["trafficPercent"] / 100)
            work = self._deploy(model, _service(model, merged["name"]), merged, pods)
            statuses.append(
                {
                    "name": merged["name"], "ready": bool(work.ready),
                    "trafficPercent": canary["trafficPercent"],
                }
            )  # fmt: skip
        expected = {host, *(_service(model, c["predictor"]["name"]) for c in canaries)}
        for name in list(mine.keys() - expected):
            if host not in mine or not mine[host].ready:
                self.killed_before_ready.append(name)
            self._remove(model, name)
        taken = sum(
            c["predictor"].get("minReplicas", 1) for c, s in zip(canaries, statuses, strict=True)
            if s["ready"]
        )  # fmt: skip
        least = stable.get("minReplicas", 1)
        work = self._deploy(model, host, stable, max(least - taken, 1) if taken else least)
        self.routes[model] = [
            (100 - sum(s["trafficPercent"] for s in statuses if s["ready"]), work)
        ]
        for status in statuses:
            other = mine[_service(model, status["name"])]
            if status["ready"]:
                self.routes[model].append((status["trafficPercent"], other))
        for one in mine.values():
            self.routes[one.name] = [(100, one)]
        up = bool(work.ready)
        self._tell(
            isvc,
            {
                "observedGeneration": work.generation,
                "url": self._url_of(model),
                "canaryStatuses": statuses,
                "components": {"predictor": {"url": self._url_of(host)}},
                "conditions": _conditions(PredictorReady=up, IngressReady=True, Ready=up),
            },
        )

    def _deploy(self, model: str, name: str, predictor: Object, replicas: int) -> Workload:
        template = {k: v for k, v in predictor.items() if k not in ("minReplicas", "maxReplicas")}
        mine = self.workloads.setdefault(model, {})
        work = mine.get(name)
        if work is not None and work.template != template:
            self._scale(work, 0)
            work.template, work.generation = template, work.generation + 1
        if work is None:
            version = predictor["labels"][VERSION]
            work = mine[name] = Workload(name, version, template)
        self._scale(work, replicas)
        return work

    def _knative(self, isvc: Object) -> None:
        model, predictor = isvc["metadata"]["name"], isvc["spec"]["predictor"]
        percent = predictor.get("canaryTrafficPercent")
        mine = self.workloads.setdefault(model, {})
        status = copy.deepcopy(isvc.get("status") or {})
        said = status.setdefault("components", {}).setdefault("predictor", {})
        # KServe asks for a split by what it knew before this round.
        rolled = said.get("latestRolledoutRevision")
        targets: list[tuple[str | None, int, str]] = [(None, 100, "latest")]
        if percent is not None and rolled:
            targets = [(None, percent, "latest")]
            if percent < 100:
                targets.append((rolled, 100 - percent, "prev"))
        template = {k: v for k, v in predictor.items() if k != "canaryTrafficPercent"}
        newest = max(mine, default=None)
        if newest is None or mine[newest].template != template:
            self._numbers[model] = number = self._numbers.get(model, 0) + 1
            newest = f"{model}-predictor-{number:05d}"
            mine[newest] = Workload(newest, predictor["labels"][VERSION], template)
        latest = said.get("latestReadyRevision", "")
        # Knative: what is newest and answers is the latest, and keeps being it.
        if mine[newest].ready:
            latest = newest
        traffic: list[Object] = []
        for revision, share, tag in targets:
            name = revision or latest
            host = f"{tag}-{model}"
            if name:
                self.routes[host] = [(100, mine[name])]
                traffic.append(
                    {
                        "revisionName": name, "percent": share, "tag": tag,
                        "latestRevision": revision is None, "url": self._url_of(host),
                    }
                )  # fmt: skip
        routed = {one["revisionName"] for one in traffic} | {newest}
        for name, work in mine.items():
            self._scale(work, work.template.get("minReplicas", 1) if name in routed else 0)
            self._tell_revision(work, name in routed)
        if latest:
            self.routes[model] = [(t["percent"], mine[t["revisionName"]]) for t in traffic]
        said |= {"latestCreatedRevision": newest, "latestReadyRevision": latest}
        _roll(said, traffic)
        said["traffic"] = traffic
        up = bool(latest) and latest == newest
        if up:
            said["url"] = status["url"] = self._url_of(model)
        status["observedGeneration"] = len(mine)
        status["conditions"] = _conditions(
            PredictorReady=up, PredictorRouteReady=bool(latest), IngressReady=bool(latest), Ready=up
        )
        self._tell(isvc, status)

    def _tell_revision(self, work: Workload, routed: bool) -> None:
        key = ("serving.knative.dev", "revisions", self._namespace, work.name)
        stored = self.api.objects.get(key)
        was = stored is not None and _is_true(stored.value, "Ready")
        # One that sleeps was ready when it fell asleep, and stays so.
        ready = bool(work.ready) if routed else was
        self.api.put(
            key,
            {
                "metadata": {"labels": dict(work.template["labels"])},
                "status": {"conditions": _conditions(Ready=ready, Active=routed)},
            },
        )

    @property
    def _namespace(self) -> str:
        return next(k[2] for k in self.api.objects if k[1] == "inferenceservices")

    def _scale(self, work: Workload, replicas: int) -> None:
        model = work.template["labels"]["heliotrope.dev/model"]
        while len(work.pods) < replicas:
            pod = self._make(model, work.version, work.template)
            work.pods.append((f"{work.name}-{next(_UIDS)}", pod))
        while len(work.pods) > replicas:
            name, pod = work.pods.pop()
            pod.stop()
            for key in [k for k in self.api.objects if k[1] == "pods" and k[3] == name]:
                self.api.drop(key)

    def _remove(self, model: str, name: str) -> None:
        work = self.workloads[model].pop(name)
        self._scale(work, 0)
        self.routes.pop(name, None)

    def _tell(self, isvc: Object, status: Object) -> None:
        metadata = isvc["metadata"]
        key: Key = (GROUP, "inferenceservices", metadata["namespace"], metadata["name"])
        stored = self.api.objects.get(key)
        if stored is not None:
            self.api.put(key, {**stored.value, "status": status})

    def _kubelet(self) -> None:
        for model, every in self.workloads.items():
            roles = (self.api.find("configmaps", f"heliotrope-roles-{model}") or {}).get("data", {})
            for work in every.values():
                for name, pod in work.pods:
                    pod.step(roles.get(work.version))
                    key = ("", "pods", self._namespace, name)
                    self.api.put(key, _pod_object(name, work, pod))


def _pod_object(name: str, work: Workload, pod: Pod) -> Object:
    container: Object = {
        "name": "kserve-container", "ready": pod.ready, "restartCount": pod.restarts, "state": {},
    }  # fmt: skip
    if pod.message:
        ended = {"exitCode": 1, "reason": "Error", "message": pod.message}
        container["lastState"] = {"terminated": ended}
    ports = [{"containerPort": pod.port}]
    return {
        "metadata": {"name": name, "labels": dict(work.template["labels"])},
        "spec": {"containers": [{"name": "kserve-container", "ports": ports}]},
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "conditions": _conditions(Ready=pod.ready),
            "containerStatuses": [container],
        },
    }


def _roll(said: Object, traffic: list[Object]) -> None:
    """Which revision is rolled out, as KServe's PropagateStatus has it."""
    latest = said["latestReadyRevision"]
    by_revision: dict[str, int] = {}
    for one in traffic:
        by_revision[one["revisionName"]] = by_revision.get(one["revisionName"], 0) + one["percent"]
    for one in traffic:
        if one["revisionName"] != latest or not one["latestRevision"]:
            continue
        if said.get("latestRolledoutRevision") != latest:
            if one["percent"] == 100:
                said["previousRolledoutRevision"] = said.get("latestRolledoutRevision", "")
                said["latestRolledoutRevision"] = latest
        elif (
            latest == said["latestCreatedRevision"]
            and one["percent"] < 100
            and by_revision[latest] == 100
            and said.get("previousRolledoutRevision")
        ):
            said["latestRolledoutRevision"] = said["previousRolledoutRevision"]


def admit(before: Object | None, after: Object) -> str | None:
    """KServe's validating webhook."""
    if after.get("kind") != "InferenceService":
        return None
    mode = after["metadata"]["annotations"][MODE]
    stable, canaries = after["spec"]["predictor"], after["spec"].get("canary") or []
    if before is not None and before["metadata"]["annotations"][MODE] != mode:
        return "update rejected: deploymentMode cannot be changed"
    if any(p.get("model", {}).get("name") for p in [stable, *(c["predictor"] for c in canaries)]):
        return "the 'name' field is not allowed in standard predictor"
    if canaries and mode != "Standard":
        return "canary is only supported in Standard deployment mode"
    names = [c["predictor"].get("name") for c in canaries]
    if not all(names) or len(set(names)) != len(names) or stable.get("name") in names:
        return f"canary predictor.name must be there and differ from all others. Got {names}"
    if sum(c["trafficPercent"] for c in canaries) > 100:
        return "sum of canary trafficPercent values must be <= 100"
    if any(c["predictor"].get("minReplicas", 0) > stable.get("minReplicas", 1) for c in canaries):
        return "canary minReplicas must not exceed stable predictor minReplicas"
    if before is not None:
        old = before["spec"]["predictor"]
        moved = old.get("name") != stable.get("name")
        if moved and old["model"]["storageUri"] == stable["model"]["storageUri"]:
            return "predictor.name cannot be changed without changing storageUri"
    return None


def _merge(stable: Any, canary: Any) -> Any:
    """As mergo does with override: what is empty overrides nothing, lists are replaced."""
    if isinstance(stable, dict) and isinstance(canary, dict):
        after = copy.deepcopy(stable)
        for key, value in canary.items():
            after[key] = _merge(stable.get(key), value)
        return after
    return copy.deepcopy(stable if canary in (None, "", [], {}) and canary is not False else canary)


def _service(model: str, name: str) -> str:
    return f"{model}-{name}-predictor"


def _conditions(**states: bool) -> list[Object]:
    return [{"type": name, "status": "True" if on else "False"} for name, on in states.items()]


def _is_true(found: Object, name: str) -> bool:
    conditions = (found.get("status") or {}).get("conditions") or []
    return any(one["type"] == name and one["status"] == "True" for one in conditions)
