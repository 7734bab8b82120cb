"""What `heliotrope doctor` makes of what a cluster says."""

from dataclasses import replace

import pytest

from heliotrope.domain.cluster_findings import (
    ClusterFacts,
    Denied,
    Finding,
    Standing,
    Told,
    findings,
    healthy,
)
from heliotrope.vocabulary import ServingMode

WELL = ClusterFacts(
    server="https://cluster", namespace="shop", kubernetes="v1.33.1", account="deployer",
    mode=ServingMode.STANDARD,
    groups={
        "serving.kserve.io": ("v1beta1", "v1alpha1"),
        "gateway.networking.k8s.io": ("v1",),
        "monitoring.coreos.com": ("v1",),
    },
    canary=Told({"taken": "true"}),
    kserve_config=Told({"deploymentMode": "Knative", "gatewayApi": "true"}),
    runtime=Told({"name": "heliotrope-tabular", "image": "r/p@sha256:1"}),
    predictor=Told({"secrets": "heliotrope-store"}),
    kfp=Told({"url": "http://kfp", "multi_user": "false", "pipelines": "training monitoring"}),
    pipelines=("training", "monitoring"),
    mlflow=Told({"url": "http://mlflow"}),
)  # fmt: skip


def told(facts: ClusterFacts) -> dict[str, Finding]:
    return {one.topic: one for one in findings(facts)}


def test_a_cluster_that_has_all_is_healthy_and_asks_for_nothing() -> None:
    found = findings(WELL)
    assert healthy(found)
    assert [(one.standing, one.remedy) for one in found] == [(Standing.OK, "")] * len(found)


@pytest.mark.parametrize(
    ("changed", "topic", "standing", "says"),
    [
        ({"groups": {}}, "KServe", Standing.LACKS, "serving.kserve.io is not there"),
        ({"groups": {"serving.kserve.io": ("v1alpha1",)}}, "KServe", Standing.LACKS, "v1alpha1"),
        ({"mode": ServingMode.KNATIVE}, "KServe's mode", Standing.LACKS, "serving.knative.dev"),
        ({"canary": Told()}, "KServe's mode", Standing.LACKS, "no spec.canary"),
        ({"canary": Told(trouble="403")}, "KServe's mode", Standing.UNKNOWN, "403"),
        ({"kserve_config": Told({"gatewayApi": "false"})}, "Traffic split", Standing.LACKS,
         "never splits"),
        ({"kserve_config": Told(trouble="may not get")}, "Traffic split", Standing.UNKNOWN,
         "may not get"),
        ({"runtime": Told()}, "ServingRuntime", Standing.LACKS, "none of ours in shop"),
        ({"predictor": Told({})}, "Storage credentials", Standing.LACKS, "no Secret"),
        ({"predictor": Told()}, "Storage credentials", Standing.LACKS, "is not in shop"),
        ({"kfp": Told(trouble="refused")}, "Kubeflow Pipelines", Standing.LACKS, "refused"),
        ({"pipelines": ("training", "new")}, "Pipelines", Standing.WITHOUT, "new"),
        ({"mlflow": Told(trouble="silent")}, "MLflow", Standing.LACKS, "silent"),
        ({"denied": (Denied("patch", "inferenceservices.serving.kserve.io", "move"),)}, "RBAC",
         Standing.LACKS, "patch inferenceservices.serving.kserve.io (move)"),
    ],
)  # fmt: skip
def test_what_lacks_is_named_with_its_remedy(
    changed: dict[str, object], topic: str, standing: Standing, says: str
) -> None:
    found = told(replace(WELL, **changed))[topic]  # type: ignore[arg-type]
    assert (found.standing, says in found.says, bool(found.remedy)) == (standing, True, True)
    assert healthy(findings(replace(WELL, **changed))) == (  # type: ignore[arg-type]
        standing is not Standing.LACKS
    )


def test_only_one_thing_is_said_where_one_thing_lacks() -> None:
    """What follows from an absent KServe is not told as faults of its own."""
    groups = {k: v for k, v in WELL.groups.items() if k != "serving.kserve.io"}
    found = findings(replace(WELL, groups=groups, canary=Told()))
    assert [one.topic for one in found if one.standing is Standing.LACKS] == ["KServe"]


def test_a_cluster_without_the_operator_works() -> None:
    groups = {k: v for k, v in WELL.groups.items() if k != "monitoring.coreos.com"}
    found = told(replace(WELL, groups=groups))["Prometheus operator"]
    assert (found.standing, found.remedy != "") == (Standing.WITHOUT, True)


@pytest.mark.parametrize(
    "annotation",
    ["eks.amazonaws.com/role-arn", "iam.gke.io/gcp-service-account",
     "azure.workload.identity/client-id"],
)  # fmt: skip
def test_a_cloud_identity_is_a_credential(annotation: str) -> None:
    found = told(replace(WELL, predictor=Told({annotation: "who"})))["Storage credentials"]
    assert found.standing is Standing.OK


def test_knative_splits_by_itself() -> None:
    groups = {**WELL.groups, "serving.knative.dev": ("v1",)}
    facts = replace(WELL, mode=ServingMode.KNATIVE, groups=groups, canary=Told())
    assert healthy(findings(facts))
    assert "Knative" in told(facts)["Traffic split"].says
