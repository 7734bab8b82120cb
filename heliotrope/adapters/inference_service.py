"""The objects by which KServe runs the versions of a model: built and read by pure functions.

Two rules shape them. Whatever is in an InferenceService's labels and annotations, or in its
predictor, is in the pods' template, so that a change of it restarts pods: nothing that changes
while a version runs is written there. The plan, and the role of each version, are in ConfigMaps of
their own; the roles reach the running predictors as files. And `status.observedGeneration` is the
generation of KServe's own child, never the InferenceService's, so that it cannot tell whether a
status is of the spec it is read beside; `inference_standard` and `inference_knative` compare what
the status says with what the spec asks for instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from heliotrope.adapters.inference_pods import PodFacts
from heliotrope.domain.document import Document
from heliotrope.domain.serving_plan import ServingPlan
from heliotrope.errors import UnavailableError, UsageError
from heliotrope.vocabulary import (
    ENV_MODEL_VERSION,
    ENV_ROLE,
    ENV_ROLE_FILE,
    LABEL_MODEL,
    LABEL_VERSION,
    Role,
)
from heliotrope.vocabulary import ServingMode as ServingMode

Object = dict[str, Any]
LONGEST_NAME = 63
"""Of a Service, and of a label's value."""
ROLES_FOLDER = "/etc/heliotrope/roles"
STOP_SECONDS = 100
"""preStop's wait, the requests under way, and what is spooled: the runtime's own three times."""
_PLAN = "plan.json"


@dataclass(frozen=True)
class ServedAs:
    """What is the same for all versions of an installation."""

    mode: ServingMode
    namespace: str
    runtime: str = "heliotrope-tabular"
    account: str = "heliotrope-predictor"
    replicas: int = 1
    """Pods of the version that has the traffic; the least of them, where it is scaled."""


class KeptPlan(Document):
    """What is asked for, and all that is needed to do it without the registry."""

    plan: ServingPlan
    uris: dict[str, str]
    """Where each version's files are, for ever."""


@dataclass(frozen=True)
class RevisionFacts:
    """A Knative Revision."""

    version: str | None
    """None where it carries no version of ours, or is gone."""
    ready: bool


@dataclass(frozen=True)
class Seen:
    """All that the cluster says of a model, read at one time."""

    isvc: Object | None
    pods: Mapping[str, PodFacts] = field(default_factory=dict)
    """By version."""
    revisions: Mapping[str, RevisionFacts] = field(default_factory=dict)
    """By name; Knative mode only."""
    idle: frozenset[str] = frozenset()
    """Versions that have been without traffic for long enough to be taken away."""

    @property
    def spec(self) -> Object:
        """What was asked for last."""
        found: Object = (self.isvc or {}).get("spec") or {}
        return found

    @property
    def status(self) -> Object:
        """What KServe says."""
        found: Object = (self.isvc or {}).get("status") or {}
        return found

    @property
    def gateway(self) -> str | None:
        """Base URL of the split."""
        url = self.status.get("url")
        return str(url).rstrip("/") if url else None

    def condition(self, name: str) -> tuple[bool, str]:
        """Whether a condition is True, and what it says otherwise."""
        for one in self.status.get("conditions") or []:
            if one.get("type") == name:
                text = one.get("message") or one.get("reason") or ""
                return one.get("status") == "True", str(text)
        return False, ""


@dataclass(frozen=True)
class View:
    """What a mode makes of what was seen."""

    versions: tuple[str, ...]
    """Those that are there."""
    ready: frozenset[str]
    addresses: Mapping[str, str | None]
    weights: Mapping[str, int]
    """In force; empty before there is a split."""
    fresh: bool
    """The status is of the spec it was read with."""


def predictor_name(version: str) -> str:
    """A version's part in the names of its Deployment and Service."""
    return f"v{version}"


def service_name(model: str, version: str) -> str:
    """A version's own Service in Standard mode, as KServe names it.

    >>> service_name("loans", "2")
    'loans-v2-predictor'
    """
    return f"{model}-{predictor_name(version)}-predictor"


def roles_name(model: str) -> str:
    """The ConfigMap of a model's roles."""
    return f"heliotrope-roles-{model}"


def plan_name(model: str) -> str:
    """The ConfigMap of a model's plan."""
    return f"heliotrope-plan-{model}"


def require_names(plan: ServingPlan) -> None:
    """Refuse what Kubernetes could not name.

    Raises:
        UsageError: the model's name is too long, or a version is no name.
    """
    for revision in plan.revisions:
        name, version = service_name(plan.model, revision.version), revision.version
        if len(name) > LONGEST_NAME:
            raise UsageError(
                f"the model's name must be at most {LONGEST_NAME - len(name) + len(plan.model)} "
                f"characters long to be served by KServe, which names a Service {name}. "
                f"Got {len(plan.model)}."
            )
        if not version.isalnum() or version != version.lower() or not version.isascii():
            raise UsageError(
                f"a version served by KServe must be of lower-case letters and digits. "
                f"Got {version!r} of {plan.model}."
            )


def require_two(plan: ServingPlan) -> None:
    """Refuse a plan of more versions than Knative mode can hold.

    Raises:
        UsageError: there are three or more.
    """
    if len(plan.revisions) > 2:
        versions = [revision.version for revision in plan.revisions]
        raise UsageError(
            "a plan must have at most 2 versions in Knative mode, which splits between the latest "
            f"revision and the one before. Got {versions} of {plan.model}."
        )


def plan_object(kept: KeptPlan, values: ServedAs) -> Object:
    """The ConfigMap that keeps a plan."""
    return _config_map(plan_name(kept.plan.model), kept.plan.model, values, {_PLAN: kept.to_json()})


def read_plan(found: Object | None) -> KeptPlan | None:
    """The plan that a ConfigMap keeps.

    Raises:
        UnavailableError: somebody wrote something else there.
    """
    if found is None:
        return None
    try:
        return KeptPlan.from_json((found.get("data") or {}).get(_PLAN, ""))
    except (ValidationError, ValueError) as error:
        name = (found.get("metadata") or {}).get("name")
        raise UnavailableError(
            f"the ConfigMap {name} must keep a serving plan in {_PLAN}. Got something else; delete "
            "it, and the controller writes it anew."
        ) from error


def roles_object(plan: ServingPlan, values: ServedAs) -> Object:
    """The ConfigMap that is each predictor's role file, by version."""
    roles = {revision.version: str(revision.role) for revision in plan.revisions}
    return _config_map(roles_name(plan.model), plan.model, values, roles)


def _config_map(name: str, model: str, values: ServedAs, data: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": values.namespace,
            "labels": {"app.kubernetes.io/managed-by": "heliotrope", LABEL_MODEL: model},
        },
        "data": dict(data),
    }


def inference_service(model: str, values: ServedAs, spec: Object) -> Object:
    """An InferenceService around its spec; its metadata is the same for ever."""
    annotations = {"serving.kserve.io/deploymentMode": str(values.mode)}
    if values.mode is ServingMode.KNATIVE:
        annotations["serving.kserve.io/enable-tag-routing"] = "true"
    else:
        # Otherwise replicas are an autoscaler's, which stays behind when its canary goes.
        annotations["serving.kserve.io/autoscalerClass"] = "none"
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": model,
            "namespace": values.namespace,
            "labels": {"app.kubernetes.io/managed-by": "heliotrope", LABEL_MODEL: model},
            "annotations": annotations,
        },
        "spec": spec,
    }


def predictor(model: str, version: str, uri: str, values: ServedAs, replicas: int) -> Object:
    """What runs one version; the same for as long as it is served, but for its replicas."""
    made: Object = {
        "minReplicas": replicas,
        "labels": {LABEL_MODEL: model, LABEL_VERSION: version},
        "serviceAccountName": values.account,
        "automountServiceAccountToken": False,
        "volumes": [{"name": "roles", "configMap": {"name": roles_name(model), "optional": True}}],
        "model": {
            # The schema of a canary demands a name, and KServe that it says nothing.
            "name": "",
            "modelFormat": {"name": "heliotrope", "version": "1"},
            "runtime": values.runtime,
            "storageUri": uri,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "env": [
                {"name": ENV_MODEL_VERSION, "value": version},
                # Until its role file says otherwise, so that none takes itself for the champion.
                {"name": ENV_ROLE, "value": str(Role.SHADOW)},
                {"name": ENV_ROLE_FILE, "value": f"{ROLES_FOLDER}/{version}"},
            ],
            "volumeMounts": [{"name": "roles", "mountPath": ROLES_FOLDER, "readOnly": True}],
        },
    }
    if values.mode is ServingMode.STANDARD:
        made |= {"name": predictor_name(version)} | _pod_of_standard(model, version)
    return made


def _pod_of_standard(model: str, version: str) -> Object:
    """What a Knative Service refuses unless features of it are turned on."""
    return {
        "terminationGracePeriodSeconds": STOP_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {LABEL_MODEL: model, LABEL_VERSION: version}},
            }
        ],
    }


def version_of(found: Mapping[str, Any]) -> str | None:
    """The version that a predictor of ours runs."""
    version = (found.get("labels") or {}).get(LABEL_VERSION)
    return str(version) if version is not None else None


def first_of(plan: ServingPlan) -> str:
    """The version that carries the traffic, or would."""

    def rank(number: int) -> tuple[int, bool, int]:
        one = plan.revisions[number]
        return plan.weights.get(one.version, 0), one.role is Role.CHAMPION, -number

    return plan.revisions[max(range(len(plan.revisions)), key=rank)].version
