"""The parts of a deployment that are Kubernetes' objects (`ports.deploying.DeployPart`)."""

import time
from collections.abc import Callable
from datetime import datetime

from heliotrope.adapters.cluster import access
from heliotrope.adapters.cluster.access import Kind
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_answers import Object
from heliotrope.adapters.inference_service import plan_name, roles_name
from heliotrope.domain.deployment import Action, Change, text_diff
from heliotrope.domain.serving_plan import Revision, ServingPlan
from heliotrope.ports.registry import Registry
from heliotrope.ports.serving import Serving
from heliotrope.spec import ModelSpec
from heliotrope.spec.loading import dump_spec
from heliotrope.vocabulary import (
    ALIAS_CHAMPION,
    LABEL_MANAGED_BY,
    LABEL_MODEL,
    LABEL_PART,
    MANAGED_BY,
    PART_SPEC,
    Role,
)

LOOK_SECONDS = 5.0
"""Between two looks of a controller at what is deployed."""
LET_GO_SECONDS = 12.0
"""After its spec is gone, in which a controller sees that and ends; before, it would serve the
model again as soon as it is taken away."""
SPEC_LABELS = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_PART: PART_SPEC}


def spec_map_name(model: str) -> str:
    """The ConfigMap of a model's spec."""
    return f"heliotrope-spec-{model}"


def spec_map(spec: ModelSpec, namespace: str) -> Object:
    """The ConfigMap by which controllers know a model."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": spec_map_name(spec.name),
            "namespace": namespace,
            "labels": {**SPEC_LABELS, LABEL_MODEL: spec.name},
        },
        "data": {f"{spec.name}.yaml": dump_spec(spec)},
    }


def deployed_specs(kube: KubeClient) -> dict[str, str]:
    """The specs that were deployed, as text by model.

    Raises:
        UnavailableError: the cluster does not answer.
    """
    found = kube.list(access.CONFIG_MAP, SPEC_LABELS)
    return {
        str(one["metadata"]["labels"].get(LABEL_MODEL, "")): "".join(
            (one.get("data") or {}).values()
        )
        for one in sorted(found, key=lambda one: str(one["metadata"]["name"]))
    }


class SpecMap:
    """The spec's ConfigMap."""

    kind = access.CONFIG_MAP.kind

    def __init__(self, kube: KubeClient, spec: ModelSpec) -> None:
        self._kube, self._wanted = kube, spec_map(spec, kube.namespace)
        self.name = spec_map_name(spec.name)

    def plan(self) -> Change:
        """Compare what is there."""
        found = self._kube.get(access.CONFIG_MAP, self.name)
        if found is None:
            text = "".join(self._wanted["data"].values())
            return Change(self.kind, self.name, Action.CREATE, details=text_diff(None, text))
        told: list[str] = []
        before, after = found.get("data") or {}, self._wanted["data"]
        for key in sorted(before.keys() | after.keys()):
            told += text_diff(before.get(key), after.get(key, ""))
        labels = found["metadata"].get("labels") or {}
        for key, value in self._wanted["metadata"]["labels"].items():
            if labels.get(key) != value:
                told += (f"- label {key}: {labels.get(key)}", f"+ label {key}: {value}")
        action = Action.CHANGE if told else Action.NONE
        return Change(self.kind, self.name, action, details=tuple(told))

    def apply(self) -> Change:
        """Server-side apply; what another manager owns is an error that names it."""
        change = self.plan()
        self._kube.apply(self._wanted, access.CONFIG_MAP)
        return change


class FirstServing:
    """The InferenceService of the champion, where none is served yet.

    After that the controller alone moves versions and traffic, so that what is there stays.
    """

    kind = access.INFERENCE_SERVICE.kind

    def __init__(
        self,
        kube: KubeClient,
        model: str,
        serving: Serving,
        registry: Callable[[], Registry],
        now: Callable[[], datetime],
    ) -> None:
        self._kube, self.name, self._serving = kube, model, serving
        self._registry, self._now = registry, now

    def plan(self) -> Change:
        """Look whether it is served, and whether there is what to serve."""
        kept = self._serving.plan(self.name)
        there = self._kube.get(access.INFERENCE_SERVICE, self.name) is not None
        if kept is not None:
            told = _told(kept)
            if there:
                why = f"{told}; the controller moves it"
                return Change(self.kind, self.name, Action.NONE, why)
            return Change(self.kind, self.name, Action.CREATE, f"as the plan says: {told}")
        if there:
            why = "it was not made by Heliotrope; delete or rename it for the model to be served"
            return Change(self.kind, self.name, Action.KEEP, why)
        champion = self._registry().by_alias(self.name, ALIAS_CHAMPION)
        if champion is None:
            why = "no champion yet: the first version that a training registers is served"
            return Change(self.kind, self.name, Action.KEEP, why)
        uri = self._registry().artifact_uri(champion)
        why = f"version {champion.version}, the champion, gets all traffic"
        return Change(self.kind, self.name, Action.CREATE, why, (f"+ storageUri: {uri}",))

    def apply(self) -> Change:
        """Ask for it; it is ready later."""
        change = self.plan()
        if not change.action.acts:
            return change
        if self._serving.plan(self.name) is not None:
            # A look makes the next step.
            self._serving.observe(self.name)
            return change
        champion = self._registry().by_alias(self.name, ALIAS_CHAMPION)
        if champion is not None:
            version = champion.version
            self._serving.apply(
                ServingPlan(
                    model=self.name,
                    revisions=(Revision(version=version, role=Role.CHAMPION),),
                    weights={version: 100},
                    at=self._now(),
                    reason="deployed: the champion in the registry",
                )
            )
        return change


class Removal:
    """One object that goes, if it is ours and this model's."""

    def __init__(self, kube: KubeClient, kind: Kind, name: str, model: str) -> None:
        self._kube, self._kind, self.name, self._model = kube, kind, name, model
        self.kind = kind.kind

    def plan(self) -> Change:
        """Look whether it is there, and whose it is."""
        found = self._kube.get(self._kind, self.name)
        if found is None:
            return Change(self.kind, self.name, Action.NONE, "it is not there")
        labels = found["metadata"].get("labels") or {}
        ours = labels.get(LABEL_MANAGED_BY) == MANAGED_BY
        if not ours or labels.get(LABEL_MODEL) != self._model:
            return Change(self.kind, self.name, Action.KEEP, "it was not made by Heliotrope")
        return Change(self.kind, self.name, Action.REMOVE)

    def apply(self) -> Change:
        """Delete it and what it owns."""
        change = self.plan()
        if change.action.acts:
            self._kube.delete(self._kind, self.name)
        return change


class SpecRemoval(Removal):
    """The spec's ConfigMap; done once the controllers that knew it have let go of the model."""

    def __init__(self, kube: KubeClient, model: str) -> None:
        super().__init__(kube, access.CONFIG_MAP, spec_map_name(model), model)

    def apply(self) -> Change:
        """Delete it, and wait."""
        change = super().apply()
        if change.action.acts:
            # Nobody who deploys may read who acts, so that there is nothing to ask.
            time.sleep(LET_GO_SECONDS)
        return change


def object_removals(kube: KubeClient, model: str) -> list[Removal]:
    """Every object of a model, in an order in which no controller puts one back."""
    return [
        SpecRemoval(kube, model),
        Removal(kube, access.CONFIG_MAP, plan_name(model), model),
        Removal(kube, access.INFERENCE_SERVICE, model, model),
        Removal(kube, access.CONFIG_MAP, roles_name(model), model),
    ]


def _told(plan: ServingPlan) -> str:
    return ", ".join(
        f"version {one.version} as {one.role}, {plan.weights.get(one.version, 0)}%"
        for one in plan.revisions
    )
