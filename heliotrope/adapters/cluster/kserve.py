"""The serving port on KServe: a plan is kept in the cluster, and carried out step by step.

`apply` keeps the plan in a ConfigMap, with the immutable address of every version's files, and
makes the first step. Every `observe` looks at what is there and makes the next one. A step is a
function of what is kept and seen, applied to the resourceVersion that was seen: whoever is killed
anywhere is resumed by the next look, and two who look at once cannot undo each other's step.

Whoever looks at many models again and again is given copies that the API server keeps up to date.
They only tell that nothing is to be done: what is written is decided on what the server itself says
at that moment, so that an old copy delays a step and never makes a wrong one.
"""

import logging
import time
from collections.abc import Callable

from heliotrope.adapters.cluster import access
from heliotrope.adapters.cluster.kserve_looking import Looking, Reader
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_answers import FieldConflict, Object
from heliotrope.adapters.cluster.pod_roles import PodRoles, ask_role
from heliotrope.adapters.cluster.watched_objects import WatchedObjects
from heliotrope.adapters.inference_holding import holds
from heliotrope.adapters.inference_knative import next_knative
from heliotrope.adapters.inference_pods import PodFacts
from heliotrope.adapters.inference_service import (
    KeptPlan,
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
)
from heliotrope.adapters.inference_standard import next_standard
from heliotrope.domain.serving_plan import ObservedRevision, ObservedServing, ServingPlan
from heliotrope.errors import ConflictError, HeliotropeError
from heliotrope.vocabulary import Role

logger = logging.getLogger("heliotrope.kserve")

LINGER_SECONDS = 10.0
"""Without traffic, before a version is taken away: gateways learn of a split one by one."""
STEPS = 4
"""Most steps a look makes; several are one after another where nothing need be waited for."""


def cluster_url(service: str, namespace: str) -> str:
    """Where a Service answers within the cluster.

    >>> cluster_url("loans-v2-predictor", "shop")
    'http://loans-v2-predictor.shop.svc.cluster.local'
    """
    return f"http://{service}.{namespace}.svc.cluster.local"


class KServeServing:
    """Versions and traffic by KServe; see `heliotrope.ports.Serving`.

    Args:
        kube: Kubernetes' API, as an account that may move versions.
        values: what all versions of this installation have in common.
        artifact_uri: the immutable address of a version's files, by model and version.
        watched: copies of what the API holds; each look asks the API itself without.
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
        watched: WatchedObjects | None = None,
        role_of: Callable[[str], Role | None] = ask_role,
        service_url: Callable[[str, str], str] = cluster_url,
        linger: float = LINGER_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube, self._values, self._artifact_uri = kube, values, artifact_uri
        self._watched = watched
        self._roles = PodRoles(role_of, monotonic)
        self._looking = Looking(values, service_url, linger, monotonic)

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
        reader: Reader = self._watched or self._kube
        kept = read_plan(reader.get(access.CONFIG_MAP, plan_name(model)))
        return kept.plan if kept else None

    def observe(self, model: str) -> ObservedServing | None:
        """What is there, after the next step was made; None where the model was never served.

        Raises:
            UnavailableError: the cluster does not answer.
            RefusedError: the cluster refuses the next step.
        """
        at_rest = self._at_rest(model, self._watched) if self._watched else None
        if at_rest is not None:
            return at_rest
        kept = read_plan(self._kube.get(access.CONFIG_MAP, plan_name(model)))
        if kept is None:
            seen = self._looking.seen(model, self._kube)
            return self._observed(model, None, seen, done=False) if seen.isvc else None
        seen, done = self._carry_out(kept)
        return self._observed(model, kept.plan, seen, done)

    def _at_rest(self, model: str, copies: WatchedObjects) -> ObservedServing | None:
        """What copies show, where they show nothing that is to be done."""
        kept = read_plan(copies.get(access.CONFIG_MAP, plan_name(model)))
        if kept is None:
            return None
        seen = self._looking.seen(model, copies)
        roles = copies.get(access.CONFIG_MAP, roles_name(model))
        if not holds(seen.isvc, self._next(kept, seen)):
            return None
        if not holds(roles, roles_object(kept.plan, self._values)):
            return None
        return self._observed(model, kept.plan, seen, done=True)

    def _next(self, kept: KeptPlan, seen: Seen) -> Object:
        """The InferenceService after the next step; as it is where there is none to make."""
        standard = self._values.mode is ServingMode.STANDARD
        return (next_standard if standard else next_knative)(kept, self._values, seen)

    def _carry_out(self, kept: KeptPlan) -> tuple[Seen, bool]:
        """Make the steps that can be made now; answers what is seen, and whether none is left."""
        try:
            # Traffic first: users feel it.
            return self._move(kept)
        finally:
            self._give_roles(kept.plan)

    def _give_roles(self, plan: ServingPlan) -> None:
        roles = roles_object(plan, self._values)
        if not holds(self._kube.get(access.CONFIG_MAP, roles_name(plan.model)), roles):
            self._put(roles, access.CONFIG_MAP)

    def _move(self, kept: KeptPlan) -> tuple[Seen, bool]:
        model = kept.plan.model
        seen = self._looking.seen(model, self._kube)
        for _ in range(STEPS):
            wanted = self._next(kept, seen)
            if holds(seen.isvc, wanted):
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
            seen = self._looking.seen(model, self._kube)
        return seen, False

    def _put(self, wanted: Object, kind: access.Kind) -> None:
        try:
            made = self._kube.apply(wanted, kind)
        except FieldConflict as error:
            # A rollback must not wait for whoever edited the object by hand.
            logger.warning("taking fields back: %s", error)
            made = self._kube.apply(wanted, kind, force=True)
        if self._watched is not None:
            self._watched.note(kind, made)

    def _observed(
        self, model: str, plan: ServingPlan | None, seen: Seen, done: bool
    ) -> ObservedServing:
        view = self._looking.view(seen)
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
        role = self._roles.of(facts, wanted)
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
