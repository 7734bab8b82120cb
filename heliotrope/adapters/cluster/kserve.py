"""The serving port on KServe: a plan is kept in the cluster, and carried out step by step.

`apply` keeps the plan in a ConfigMap, with the immutable address of every version's files, and
makes the first step. Every `observe` looks at what is there and makes the next one. A step is a
function of what is kept and seen, applied to the resourceVersion that was seen: whoever is killed
anywhere is resumed by the next look, and two who look at once cannot undo each other's step.
"""

import copy
import http.client
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from heliotrope.adapters.cluster import access
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_answers import FieldConflict, Object
from heliotrope.adapters.inference_knative import next_knative, revisions_of, view_knative
from heliotrope.adapters.inference_pods import PodFacts, facts_by_version
from heliotrope.adapters.inference_service import (
    KeptPlan,
    RevisionFacts,
    Seen,
    ServedAs,
    ServingMode,
    View,
    plan_name,
    plan_object,
    read_plan,
    require_names,
    require_two,
    roles_name,
    roles_object,
    version_of,
)
from heliotrope.adapters.inference_standard import next_standard, view_standard
from heliotrope.domain.serving_plan import ObservedRevision, ObservedServing, ServingPlan
from heliotrope.errors import ConflictError, HeliotropeError
from heliotrope.telemetry.predictor_metrics import PREDICTOR_INFO
from heliotrope.vocabulary import LABEL_MODEL, Role

logger = logging.getLogger("heliotrope.kserve")

LINGER_SECONDS = 10.0
"""Without traffic, before a version is taken away: gateways learn of a split one by one."""
ASK_SECONDS = 2.0
ASK_AGAIN_SECONDS = 10.0
"""Before a pod that did not answer is asked again: a tick must not wait for it each time."""
MOST_PODS = 10_000
STEPS = 4
"""Most steps a look makes; several are one after another where nothing need be waited for."""
_ROLE = re.compile(rf'^{PREDICTOR_INFO.name}\{{.*\brole="(\w+)"'.encode(), re.MULTILINE)


def cluster_url(service: str, namespace: str) -> str:
    """Where a Service answers within the cluster.

    >>> cluster_url("loans-v2-predictor", "shop")
    'http://loans-v2-predictor.shop.svc.cluster.local'
    """
    return f"http://{service}.{namespace}.svc.cluster.local"


def ask_role(url: str) -> Role | None:
    """The role that a predictor says it answers in; None where it does not say."""
    parts = urlsplit(url)
    try:
        link = http.client.HTTPConnection(parts.netloc, timeout=ASK_SECONDS)
        try:
            link.request("GET", "/metrics")
            found = _ROLE.search(link.getresponse().read())
        finally:
            link.close()
        return Role(found[1].decode()) if found else None
    except (OSError, ValueError, http.client.HTTPException):
        return None


@dataclass(frozen=True)
class _Said:
    """What a pod said its role is, and when; None where it said nothing."""

    role: Role | None
    at: float


class KServeServing:
    """Versions and traffic by KServe; see `heliotrope.ports.Serving`.

    Args:
        kube: Kubernetes' API, as an account that may move versions.
        values: what all versions of this installation have in common.
        artifact_uri: the immutable address of a version's files, by model and version.
        role_of: what a pod at a base URL says its role is.
        service_url: where a Service answers whoever asks from here.
        linger: seconds without traffic before a version is taken away.
        monotonic: a clock.
    """

    def __init__(
        self,
        kube: KubeClient,
        values: ServedAs,
        artifact_uri: Callable[[str, str], str],
        *,
        role_of: Callable[[str], Role | None] = ask_role,
        service_url: Callable[[str, str], str] = cluster_url,
        linger: float = LINGER_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube, self._values, self._artifact_uri = kube, values, artifact_uri
        self._role_of, self._service_url = role_of, service_url
        self._linger, self._monotonic = linger, monotonic
        self._said: dict[str, _Said] = {}
        """By pod."""
        self._zero: dict[tuple[str, str], float] = {}

    def apply(self, plan: ServingPlan) -> None:
        """Ask for a plan; kept once this returns, whatever then becomes of the first step.

        Raises:
            UsageError: Kubernetes cannot name the model, or KServe not hold so many versions.
            UnavailableError: the cluster, or, for a version that is new here, the registry does
                not answer; the plan before it stays.
            NotFoundError: a version is not registered.
        """
        require_names(plan)
        if self._values.mode is ServingMode.KNATIVE:
            require_two(plan)
        before = read_plan(self._kube.get(access.CONFIG_MAP, plan_name(plan.model)))
        known = before.uris if before else {}
        uris = {
            revision.version: known.get(revision.version)
            or self._artifact_uri(plan.model, revision.version)
            for revision in plan.revisions
        }
        kept = KeptPlan(plan=plan, uris=uris)
        self._put(plan_object(kept, self._values), access.CONFIG_MAP)
        try:
            self._carry_out(kept)
        except HeliotropeError as error:
            logger.warning("%s: the first step waits for the next look: %s", plan.model, error)

    def plan(self, model: str) -> ServingPlan | None:
        """What was last asked for.

        Raises:
            UnavailableError: the cluster does not answer, or keeps no plan where one must be.
        """
        kept = read_plan(self._kube.get(access.CONFIG_MAP, plan_name(model)))
        return kept.plan if kept else None

    def observe(self, model: str) -> ObservedServing | None:
        """What is there, after the next step was made; None where the model was never served.

        Raises:
            UnavailableError: the cluster does not answer.
            RefusedError: the cluster refuses the next step.
        """
        kept = read_plan(self._kube.get(access.CONFIG_MAP, plan_name(model)))
        if kept is None:
            seen = self._look(model)
            return self._observed(model, None, seen, done=False) if seen.isvc else None
        seen, done = self._carry_out(kept)
        return self._observed(model, kept.plan, seen, done)

    def _carry_out(self, kept: KeptPlan) -> tuple[Seen, bool]:
        """Make the steps that can be made now; answers what is seen, and whether none is left."""
        try:
            # Traffic first: users feel it.
            return self._move(kept)
        finally:
            self._give_roles(kept.plan)

    def _give_roles(self, plan: ServingPlan) -> None:
        roles = roles_object(plan, self._values)
        if not _holds(self._kube.get(access.CONFIG_MAP, roles_name(plan.model)), roles):
            self._put(roles, access.CONFIG_MAP)

    def _move(self, kept: KeptPlan) -> tuple[Seen, bool]:
        model = kept.plan.model
        standard = self._values.mode is ServingMode.STANDARD
        seen = self._look(model)
        for _ in range(STEPS):
            wanted = (next_standard if standard else next_knative)(kept, self._values, seen)
            if _holds(seen.isvc, wanted):
                return seen, True
            if seen.isvc is not None:
                wanted["metadata"]["resourceVersion"] = seen.isvc["metadata"]["resourceVersion"]
            try:
                self._put(wanted, access.INFERENCE_SERVICE)
            except FieldConflict:
                raise
            except ConflictError as error:
                # KServe writes its status all the time, and that counts as a change.
                logger.debug("%s: looked again: %s", model, error)
            seen = self._look(model)
        return seen, False

    def _put(self, wanted: Object, kind: access.Kind) -> None:
        try:
            self._kube.apply(wanted, kind)
        except FieldConflict as error:
            # A rollback must not wait for whoever edited the object by hand.
            logger.warning("taking fields back: %s", error)
            self._kube.apply(wanted, kind, force=True)

    def _look(self, model: str) -> Seen:
        isvc = self._kube.get(access.INFERENCE_SERVICE, model)
        if isvc is None:
            return Seen(None)
        pods = facts_by_version(self._kube.list(access.POD, {LABEL_MODEL: model}))
        revisions: Mapping[str, RevisionFacts] = {}
        if self._values.mode is ServingMode.KNATIVE:
            revisions = {name: self._revision(name) for name in revisions_of(isvc)}
        seen = Seen(isvc, pods, revisions)
        return Seen(isvc, pods, revisions, self._idle(model, self._view(seen)))

    def _revision(self, name: str) -> RevisionFacts:
        found = self._kube.get(access.KNATIVE_REVISION, name)
        if found is None:
            return RevisionFacts(None, ready=False)
        conditions = (found.get("status") or {}).get("conditions") or []
        ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
        return RevisionFacts(version_of(found["metadata"]), ready)

    def _view(self, seen: Seen) -> View:
        if self._values.mode is ServingMode.KNATIVE:
            return view_knative(seen)
        return view_standard(seen, self._values.namespace, self._service_url)

    def _idle(self, model: str, view: View) -> frozenset[str]:
        now, found = self._monotonic(), set()
        for version in view.versions:
            if view.weights.get(version) or not view.fresh:
                self._zero.pop((model, version), None)
            elif now - self._zero.setdefault((model, version), now) >= self._linger:
                found.add(version)
        return frozenset(found)

    def _observed(
        self, model: str, plan: ServingPlan | None, seen: Seen, done: bool
    ) -> ObservedServing:
        view = self._view(seen)
        named = {r.version: r.role for r in plan.revisions} if plan else {}
        rows = [self._row(seen, view, v, named.get(v)) for v in view.versions]
        settled = (
            done
            and view.fresh
            and plan is not None
            and {row.version: role for row, role in rows} == named
            and all(row.ready for row, _ in rows)
            and dict(view.weights) == {v: share for v, share in plan.weights.items() if share}
        )
        return ObservedServing(
            model=model,
            revisions=tuple(row for row, _ in rows),
            weights=dict(view.weights),
            settled=settled,
            gateway=seen.gateway,
        )

    def _row(
        self, seen: Seen, view: View, version: str, wanted: Role | None
    ) -> tuple[ObservedRevision, Role | None]:
        """A version as it runs, and the role that its pods say; None where one does not."""
        facts = seen.pods.get(version, PodFacts())
        ready = version in view.ready
        role = self._role(facts, wanted)
        message = ""
        if not ready:
            message = facts.message or seen.condition("PredictorReady")[1] or "it has no pod yet"
        elif role is None:
            message = "its pods must say their role on /metrics to whoever looks"
        row = ObservedRevision(
            version=version,
            role=role or wanted or Role.SHADOW,
            ready=ready,
            address=view.addresses.get(version),
            restarts=facts.restarts,
            message=message,
        )
        return row, role

    def _role(self, facts: PodFacts, wanted: Role | None) -> Role | None:
        """Of all pods, as they said it last; one that differs from what is wanted comes first."""
        if not facts.ready:
            return wanted
        found = [self._asked(name, url, wanted) for name, url in facts.ready]
        return next((role for role in found if role != wanted), wanted)

    def _asked(self, name: str, url: str, wanted: Role | None) -> Role | None:
        now, said = self._monotonic(), self._said.get(name)
        if said is not None and (
            said.role == wanted or (said.role is None and now - said.at < ASK_AGAIN_SECONDS)
        ):
            return said.role
        role = self._role_of(url)
        if len(self._said) > MOST_PODS:
            # Of pods that are long gone, mostly.
            self._said.clear()
        self._said[name] = _Said(role, now)
        return role


def _holds(found: Object | None, wanted: Object) -> bool:
    """Whether an object has all that is wanted; what webhooks and others added does not count."""
    return found is not None and _within(wanted, _owned(found, wanted))


def _owned(found: Object, wanted: Object) -> Object:
    part = copy.copy(found)
    if "data" in wanted:
        # A role that is no longer wanted must go.
        part["data"] = (found.get("data") or {}) if found.get("data") == wanted["data"] else {}
    return part


def _within(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, dict):
        fields = found if isinstance(found, dict) else {}
        return all(_within(value, fields.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        items = found if isinstance(found, list) else []
        if wanted and all(isinstance(one, dict) and one.get("name") for one in wanted):
            # Webhooks add variables, volumes and mounts of their own.
            named = {one.get("name"): one for one in items if isinstance(one, dict)}
            return all(_within(one, named.get(one["name"])) for one in wanted)
        return len(wanted) == len(items) and all(map(_within, wanted, items))
    # Go leaves out what is empty.
    return bool(wanted == found) or (found is None and wanted in ("", None))
