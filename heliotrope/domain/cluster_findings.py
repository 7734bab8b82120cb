"""What a cluster has and lacks for Heliotrope, and what mends it. Pure: facts in, findings out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from heliotrope.vocabulary import ENV_KSERVE_MODE, ServingMode

KSERVE_GROUP = "serving.kserve.io"
KNATIVE_GROUP = "serving.knative.dev"
GATEWAY_GROUP = "gateway.networking.k8s.io"
OPERATOR_GROUP = "monitoring.coreos.com"
_IDENTITIES = {
    "eks.amazonaws.com/role-arn": "an IAM role (IRSA)",
    "iam.gke.io/gcp-service-account": "a Google service account",
    "azure.workload.identity/client-id": "an Azure identity",
}


class Standing(StrEnum):
    """How one thing stands."""

    OK = "ok"
    """It is there."""
    LACKS = "lacks"
    """It is needed and not there."""
    WITHOUT = "without"
    """It is not there, and all else works without it."""
    UNKNOWN = "unknown"
    """Who asked may not look."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    topic: str
    standing: Standing
    says: str
    remedy: str = ""
    """What a person does; empty where nothing need be done."""


@dataclass(frozen=True)
class Denied:
    """One thing that who asked may not do."""

    verb: str
    resource: str
    why: str
    """What it is needed for."""


@dataclass(frozen=True)
class Told:
    """Something that was asked for: a value, or why there is none."""

    value: Mapping[str, str] | None = None
    """None where it is not there, or could not be read."""
    trouble: str = ""
    """Why it could not be read."""


@dataclass(frozen=True)
class ClusterFacts:
    """All that was asked, as it was answered."""

    server: str
    namespace: str
    kubernetes: str
    account: str
    mode: ServingMode
    """As configured."""
    groups: Mapping[str, tuple[str, ...]]
    """API groups with their versions."""
    canary: Told = field(default_factory=Told)
    """Whether KServe takes `spec.canary`: a value where it does."""
    kserve_config: Told = field(default_factory=Told)
    """`deploymentMode`, `gatewayApi` of KServe's own ConfigMap."""
    runtime: Told = field(default_factory=Told)
    """Our ServingRuntime."""
    predictor: Told = field(default_factory=Told)
    """The predictors' ServiceAccount: its annotations, and `secrets`."""
    kfp: Told = field(default_factory=Told)
    """`url`, `multi_user`, and `pipelines` that are uploaded."""
    pipelines: tuple[str, ...] = ()
    """Those that a deployment uploads."""
    mlflow: Told = field(default_factory=Told)
    """`url`."""
    store: str = ""
    denied: tuple[Denied, ...] = ()


def findings(facts: ClusterFacts) -> list[Finding]:
    """All findings, what everything rests on first."""
    return [
        Finding(
            "Kubernetes", Standing.OK,
            f"{facts.kubernetes} at {facts.server}, namespace {facts.namespace}",
        ),
        _access(facts),
        *_kserve(facts),
        _split(facts),
        _runtime(facts),
        _credentials(facts),
        *_kfp(facts),
        _mlflow(facts),
        _operator(facts),
    ]  # fmt: skip


def healthy(found: list[Finding]) -> bool:
    """Whether nothing that is needed lacks."""
    return all(one.standing is not Standing.LACKS for one in found)


def _access(facts: ClusterFacts) -> Finding:
    if not facts.denied:
        return Finding("RBAC", Standing.OK, f"this account may do all that {facts.account} does")
    told = "; ".join(f"{one.verb} {one.resource} ({one.why})" for one in facts.denied)
    return Finding(
        "RBAC", Standing.LACKS, f"this account may not: {told}",
        f"bind it to the Role heliotrope-{facts.account} in {facts.namespace}: kubectl -n "
        f"{facts.namespace} create rolebinding NAME --role=heliotrope-{facts.account} --user=YOU",
    )  # fmt: skip


def _kserve(facts: ClusterFacts) -> list[Finding]:
    versions = facts.groups.get(KSERVE_GROUP)
    if versions is None:
        return [
            Finding(
                "KServe", Standing.LACKS, f"the API group {KSERVE_GROUP} is not there",
                "install KServe 0.21 or newer: https://kserve.github.io/website",
            )
        ]  # fmt: skip
    if "v1beta1" not in versions:
        return [
            Finding(
                "KServe", Standing.LACKS,
                f"{KSERVE_GROUP}/v1beta1 is not there; there is {', '.join(versions)}",
                "upgrade KServe to 0.21 or newer",
            )
        ]  # fmt: skip
    found = [Finding("KServe", Standing.OK, f"{KSERVE_GROUP} {', '.join(versions)}")]
    if facts.mode is ServingMode.KNATIVE and KNATIVE_GROUP not in facts.groups:
        found.append(
            Finding(
                "KServe's mode", Standing.LACKS,
                f"{ENV_KSERVE_MODE} is Knative, and {KNATIVE_GROUP} is not there",
                f"install Knative Serving, or set {ENV_KSERVE_MODE}=Standard",
            )
        )  # fmt: skip
    elif facts.mode is ServingMode.STANDARD and facts.canary.trouble:
        found.append(
            Finding(
                "KServe's mode", Standing.UNKNOWN,
                f"Standard; whether KServe takes spec.canary is not known: {facts.canary.trouble}",
                "let an account look that may patch inferenceservices",
            )
        )  # fmt: skip
    elif facts.mode is ServingMode.STANDARD and facts.canary.value is None:
        found.append(
            Finding(
                "KServe's mode", Standing.LACKS, "Standard, and this KServe knows no spec.canary",
                "upgrade KServe to 0.21 or newer: older ones split traffic in Knative mode only",
            )
        )  # fmt: skip
    else:
        told = (facts.kserve_config.value or {}).get("deploymentMode")
        other = f"; KServe's own default, {told}, is not used" if told else ""
        found.append(Finding("KServe's mode", Standing.OK, f"{facts.mode}{other}"))
    return found


def _split(facts: ClusterFacts) -> Finding:
    if facts.mode is ServingMode.KNATIVE:
        return Finding("Traffic split", Standing.OK, "by Knative's own routes")
    if GATEWAY_GROUP not in facts.groups:
        return Finding(
            "Traffic split", Standing.LACKS, f"the Gateway API ({GATEWAY_GROUP}) is not there",
            "install the Gateway API's CRDs and a controller of it (Envoy Gateway, Istio, ...)",
        )  # fmt: skip
    config = facts.kserve_config
    if config.value is None:
        return Finding(
            "Traffic split", Standing.UNKNOWN,
            "the Gateway API is there; whether KServe uses it is not known: "
            f"{config.trouble or 'its ConfigMap is not there'}",
            "see that ingress.enableGatewayApi is true in the ConfigMap inferenceservice-config of "
            "KServe's namespace",
        )  # fmt: skip
    if config.value.get("gatewayApi") != "true":
        return Finding(
            "Traffic split", Standing.LACKS,
            "KServe does not use the Gateway API, and plain Ingress never splits traffic",
            "set ingress.enableGatewayApi to true in the ConfigMap inferenceservice-config",
        )  # fmt: skip
    return Finding("Traffic split", Standing.OK, "by the Gateway API, as KServe is told")


def _runtime(facts: ClusterFacts) -> Finding:
    if facts.runtime.trouble:
        return Finding("ServingRuntime", Standing.UNKNOWN, facts.runtime.trouble)
    if facts.runtime.value is None:
        return Finding(
            "ServingRuntime", Standing.LACKS, f"there is none of ours in {facts.namespace}",
            "kubectl apply -k manifests/overlays/standard (or knative)",
        )  # fmt: skip
    image = facts.runtime.value.get("image", "")
    return Finding("ServingRuntime", Standing.OK, f"{facts.runtime.value.get('name')}: {image}")


def _credentials(facts: ClusterFacts) -> Finding:
    topic, account = "Storage credentials", facts.predictor
    if account.trouble:
        return Finding(topic, Standing.UNKNOWN, account.trouble)
    if account.value is None:
        return Finding(
            topic, Standing.LACKS,
            f"the predictors' ServiceAccount is not in {facts.namespace}",
            "kubectl apply -k manifests/overlays/standard (or knative)",
        )  # fmt: skip
    identity = next((told for key, told in _IDENTITIES.items() if account.value.get(key)), None)
    secrets = account.value.get("secrets", "")
    if identity or secrets:
        by = identity or f"the Secret {secrets}"
        return Finding(topic, Standing.OK, f"predictors read models with {by}")
    return Finding(
        topic, Standing.LACKS, "the predictors' ServiceAccount has no Secret and no cloud identity",
        "name a Secret of AWS keys in its `secrets`, or annotate it with a role (IRSA)",
    )  # fmt: skip


def _kfp(facts: ClusterFacts) -> list[Finding]:
    kfp = facts.kfp
    if kfp.value is None:
        return [
            Finding(
                "Kubeflow Pipelines", Standing.LACKS, kfp.trouble or "it does not answer",
                "install KFP 2.17 or newer, or set HELIOTROPE_KFP_URL to where it is from here "
                "(kubectl -n kubeflow port-forward svc/ml-pipeline 8888)",
            )
        ]  # fmt: skip
    users = "many users" if kfp.value.get("multi_user") == "true" else "one user"
    found = [Finding("Kubeflow Pipelines", Standing.OK, f"{kfp.value.get('url')}, for {users}")]
    there = set(kfp.value.get("pipelines", "").split())
    absent = [name for name in facts.pipelines if name not in there]
    if absent:
        found.append(
            Finding(
                "Pipelines", Standing.WITHOUT, f"not uploaded, or another version: "
                f"{', '.join(absent)}", "heliotrope deploy SPEC",
            )
        )  # fmt: skip
    elif facts.pipelines:
        found.append(Finding("Pipelines", Standing.OK, f"{', '.join(facts.pipelines)}, newest"))
    return found


def _mlflow(facts: ClusterFacts) -> Finding:
    if facts.mlflow.value is None:
        return Finding(
            "MLflow", Standing.LACKS, facts.mlflow.trouble or "it does not answer",
            "set MLFLOW_TRACKING_URI to where it is from here (kubectl port-forward)",
        )  # fmt: skip
    return Finding("MLflow", Standing.OK, facts.mlflow.value.get("url", ""))


def _operator(facts: ClusterFacts) -> Finding:
    if OPERATOR_GROUP in facts.groups:
        return Finding("Prometheus operator", Standing.OK, ", ".join(facts.groups[OPERATOR_GROUP]))
    return Finding(
        "Prometheus operator", Standing.WITHOUT, f"{OPERATOR_GROUP} is not there",
        "without it, give dashboards/prometheus/ to your Prometheus yourself; rollouts do not need "
        "one",
    )  # fmt: skip
