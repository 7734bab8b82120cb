"""The emulated API server does what Kubernetes' does, so that what passes on it means something."""

from collections.abc import Iterator
from typing import Any

import pytest

from heliotrope.adapters.cluster import access
from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_answers import FieldConflict
from heliotrope.adapters.cluster.kube_login import client_of
from heliotrope.adapters.inference_service import (
    ServedAs,
    ServingMode,
    inference_service,
    predictor,
)
from heliotrope.errors import ConflictError, NotFoundError, RefusedError, UnavailableError
from tests.emulated.apiserver import ApiServer
from tests.emulated.contracts import CRDS, contract
from tests.emulated.kserve_controller import admit


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer().start()
    yield server
    server.stop()


@pytest.fixture
def kube(api: ApiServer) -> KubeClient:
    return client_of(api.url, Account.DEPLOYER, "shop", patience=1)


def config(**data: str | None) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": dict(data),
    }  # fmt: skip


def test_an_apply_adds_changes_and_takes_away_what_it_owns_and_nothing_else(
    api: ApiServer, kube: KubeClient
) -> None:
    first = kube.apply(config(x="1", y="1"), access.CONFIG_MAP)
    api.edit("configmaps", "a", {"data": {"theirs": "1"}}, "kubectl")
    found = kube.apply(config(x="2"), access.CONFIG_MAP)
    assert found["data"] == {"x": "2", "theirs": "1"}
    assert found["metadata"]["uid"] == first["metadata"]["uid"]
    assert found["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]


def test_the_same_apply_again_changes_nothing(kube: KubeClient) -> None:
    first = kube.apply(config(x="1"), access.CONFIG_MAP)
    assert kube.apply(config(x="1"), access.CONFIG_MAP) == first


def test_a_field_of_another_is_a_conflict_unless_it_is_forced_or_the_same(
    api: ApiServer, kube: KubeClient
) -> None:
    kube.apply(config(x="1"), access.CONFIG_MAP)
    api.edit("configmaps", "a", {"data": {"x": "9"}}, "kubectl-edit")
    assert kube.apply(config(x="9"), access.CONFIG_MAP)["data"] == {"x": "9"}
    with pytest.raises(FieldConflict, match=r'"kubectl-edit": \.data\.x'):
        kube.apply(config(x="2"), access.CONFIG_MAP)
    assert kube.apply(config(x="2"), access.CONFIG_MAP, force=True)["data"] == {"x": "2"}
    assert kube.apply(config(x="3"), access.CONFIG_MAP)["data"] == {"x": "3"}


def test_a_null_takes_a_field_away_whoever_set_it(api: ApiServer, kube: KubeClient) -> None:
    kube.apply(config(x="1"), access.CONFIG_MAP)
    api.edit("configmaps", "a", {"data": {"y": "9"}}, "kubectl-edit")
    found = kube.apply(config(x="1", y=None), access.CONFIG_MAP, force=True)
    assert found["data"] == {"x": "1"}


def test_a_dry_run_says_what_would_be_and_changes_nothing(api: ApiServer, kube: KubeClient) -> None:
    assert kube.apply(config(x="1"), access.CONFIG_MAP, dry=True)["data"] == {"x": "1"}
    assert api.find("configmaps", "a") is None


def test_an_object_of_another_version_is_not_changed(kube: KubeClient) -> None:
    first = kube.apply(config(x="1"), access.CONFIG_MAP)
    kube.apply(config(x="2"), access.CONFIG_MAP)
    old = config(x="3")
    old["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"]
    with pytest.raises(ConflictError, match="has been modified") as caught:
        kube.apply(old, access.CONFIG_MAP)
    assert not isinstance(caught.value, FieldConflict)


def test_a_generation_is_of_the_spec_and_a_version_of_everything(
    api: ApiServer, kube: KubeClient
) -> None:
    api.admit = admit
    values = ServedAs(ServingMode.STANDARD, "shop")
    body = predictor("loans", "1", "s3://b/1", values, 1)
    wanted = inference_service("loans", values, {"predictor": body})
    first = kube.apply(wanted, access.INFERENCE_SERVICE)["metadata"]
    key = ("serving.kserve.io", "inferenceservices", "shop", "loans")
    api.put(key, {**wanted, "status": {"url": "http://x"}})
    found = kube.get(access.INFERENCE_SERVICE, "loans")
    assert found is not None
    assert found["metadata"]["generation"] == first["generation"] == 1
    assert found["metadata"]["resourceVersion"] != first["resourceVersion"]
    wanted["spec"]["predictor"]["minReplicas"] = 2
    assert kube.apply(wanted, access.INFERENCE_SERVICE)["metadata"]["generation"] == 2


def test_what_the_schema_and_kserve_forbid_is_refused(api: ApiServer, kube: KubeClient) -> None:
    contract(CRDS)
    api.admit = admit
    values = ServedAs(ServingMode.STANDARD, "shop")

    def asked(**more: Any) -> dict[str, Any]:
        body = {**predictor("loans", "1", "s3://b/1", values, 1), **more}
        return inference_service("loans", values, {"predictor": body})

    with pytest.raises(RefusedError, match=r"400.*'shadowPercent' was unexpected"):
        kube.apply(asked(shadowPercent=1), access.INFERENCE_SERVICE)
    with pytest.raises(RefusedError, match=r"422.*minReplicas"):
        kube.apply(asked(minReplicas="many"), access.INFERENCE_SERVICE)
    kube.apply(asked(), access.INFERENCE_SERVICE)
    with pytest.raises(RefusedError, match="without changing storageUri"):
        kube.apply(asked(name="v9"), access.INFERENCE_SERVICE)
    other = inference_service("loans", ServedAs(ServingMode.KNATIVE, "shop"), asked()["spec"])
    with pytest.raises(RefusedError, match="deploymentMode cannot be changed"):
        kube.apply(other, access.INFERENCE_SERVICE)


def test_rules_grant_verbs_and_an_apply_that_makes_needs_two() -> None:
    rules = {
        "half": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch", "get"]}],
        "whole": [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch", "get", "create"]}
        ],
    }
    api = ApiServer(rules=rules).start()
    try:
        half = client_of(api.url, Account.DEPLOYER, "shop", token="half", patience=1)
        whole = client_of(api.url, Account.DEPLOYER, "shop", token="whole", patience=1)
        with pytest.raises(UnavailableError, match=r"must be allowed.*cannot create"):
            half.apply(config(x="1"), access.CONFIG_MAP)
        whole.apply(config(x="1"), access.CONFIG_MAP)
        assert half.apply(config(x="2"), access.CONFIG_MAP)["data"] == {"x": "2"}
        assert half.may("patch", "", "configmaps") == (True, "")
        assert half.may("create", "", "configmaps") == (False, "no rule")
    finally:
        api.stop()


def test_pages_labels_groups_and_kinds(kube: KubeClient, api: ApiServer) -> None:
    for number in range(3):
        api.put(
            ("", "pods", "shop", f"p{number}"), {"metadata": {"labels": {"n": str(number % 2)}}}
        )
    api.put(("", "pods", "elsewhere", "p9"), {"metadata": {"labels": {"n": "0"}}})
    found = kube.list(access.POD, {"n": "0"})
    assert [one["metadata"]["name"] for one in found] == ["p0", "p2"]
    assert "serving.kserve.io" in kube.groups()
    assert "inferenceservices" in kube.resources("serving.kserve.io", "v1beta1")
    assert kube.resources("monitoring.coreos.com", "v1") == ()
    assert kube.version().startswith("v1.")
    bare = ApiServer(kinds=[("", "configmaps")]).start()
    try:
        with pytest.raises(NotFoundError, match="must have its kind"):
            client_of(bare.url, Account.DEPLOYER, "shop").get(access.INFERENCE_SERVICE, "x")
    finally:
        bare.stop()
