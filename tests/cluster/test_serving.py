"""The serving port against the cluster that KUBECONFIG names; skipped, saying why, without one.

- `KUBECONFIG`: its current context, and that context's namespace, are used.
- `HELIOTROPE_TEST_MODELS`: addresses of two versions' files that KServe's storage initializer
  takes, between commas. With them a whole rollout is run, on a model of its own name that is
  taken away again.
- `HELIOTROPE_KSERVE_MODE`: Standard or Knative, as KServe is set up; Standard without.
"""

import os
import time
import uuid
from collections.abc import Iterator

import pytest

from heliotrope.adapters.cluster import access
from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kserve import KServeServing
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_login import connect
from heliotrope.adapters.inference_knative import next_knative
from heliotrope.adapters.inference_service import (
    KeptPlan,
    Seen,
    ServedAs,
    ServingMode,
    plan_name,
    plan_object,
    roles_name,
    roles_object,
)
from heliotrope.adapters.inference_standard import next_standard
from heliotrope.domain.serving_plan import ObservedServing, ServingPlan
from heliotrope.errors import HeliotropeError, RefusedError
from heliotrope.vocabulary import ENV_KSERVE_MODE, Role
from tests.emulated.kserve_steps import plan

PATIENCE = 900.0
"""For a pod to be scheduled, its image and model fetched, and a gateway to learn of it."""
MODELS = "HELIOTROPE_TEST_MODELS"


@pytest.fixture(scope="module")
def kube() -> Iterator[KubeClient]:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG must name a cluster's kubeconfig")
    found = connect(Account.DEPLOYER)
    try:
        found.version()
    except HeliotropeError as error:
        pytest.skip(f"the cluster that KUBECONFIG names must answer: {error}")
    yield found
    found.close()


@pytest.fixture(scope="module")
def kserve(kube: KubeClient) -> KubeClient:
    if "inferenceservices" not in kube.resources("serving.kserve.io", "v1beta1"):
        pytest.skip("the cluster must have KServe (serving.kserve.io/v1beta1)")
    return kube


@pytest.fixture
def mode() -> ServingMode:
    return ServingMode(os.environ.get(ENV_KSERVE_MODE) or ServingMode.STANDARD)


@pytest.fixture
def model(kube: KubeClient) -> Iterator[str]:
    """A name that nobody uses, and nothing of it left behind."""
    name = f"heliotrope-test-{uuid.uuid4().hex[:8]}"
    yield name
    kube.delete(access.CONFIG_MAP, plan_name(name))
    kube.delete(access.CONFIG_MAP, roles_name(name))
    if "inferenceservices" in kube.resources("serving.kserve.io", "v1beta1"):
        kube.delete(access.INFERENCE_SERVICE, name)


def way(model: str) -> list[ServingPlan]:
    """A rollout from its beginning to its end."""
    champion, shadow, canary = Role.CHAMPION, Role.SHADOW, Role.CANARY
    return [
        plan({"1": champion}, model, v1=100),
        plan({"1": champion, "2": shadow}, model, v1=100, v2=0),
        plan({"1": champion, "2": canary}, model, v1=50, v2=50),
        plan({"1": shadow, "2": champion}, model, v1=0, v2=100),
        plan({"2": champion}, model, v2=100),
    ]


def test_the_account_may_do_what_it_will_do(kube: KubeClient, mode: ServingMode) -> None:
    groups = {*kube.groups(), ""}
    missing = [
        f"{one.verb} {one.kind.resource}: {one.why}"
        for one in access.accesses_of(Account.DEPLOYER)
        if one.kind.group in groups
        and (mode is ServingMode.KNATIVE or not one.knative)
        and not kube.may(one.verb, one.kind.group, one.kind.plural)[0]
    ]
    assert missing == []


def test_a_plan_is_kept_and_taken_away(kube: KubeClient, model: str) -> None:
    values = ServedAs(ServingMode.STANDARD, kube.namespace)
    kept = KeptPlan(plan=way(model)[1], uris={"1": "s3://b/1", "2": "s3://b/2"})
    for wanted in (plan_object(kept, values), roles_object(kept.plan, values)):
        tried = kube.apply(wanted, access.CONFIG_MAP, dry=True)
        assert tried["data"] == wanted["data"]
        assert kube.get(access.CONFIG_MAP, wanted["metadata"]["name"]) is None
    made = kube.apply(plan_object(kept, values), access.CONFIG_MAP)
    again = kube.apply(plan_object(kept, values), access.CONFIG_MAP)
    assert made["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]
    assert kube.delete(access.CONFIG_MAP, plan_name(model))
    assert not kube.delete(access.CONFIG_MAP, plan_name(model))


def test_kserve_takes_the_objects_and_refuses_a_typo(
    kserve: KubeClient, model: str, mode: ServingMode
) -> None:
    values = ServedAs(mode, kserve.namespace)
    following = next_standard if mode is ServingMode.STANDARD else next_knative
    first, both = way(model)[:2]
    uris = {"1": "s3://b/1", "2": "s3://b/2"}
    made = following(KeptPlan(plan=first, uris=uris), values, Seen(None))
    tried = kserve.apply(made, access.INFERENCE_SERVICE, dry=True)
    assert tried["spec"]["predictor"]["model"]["storageUri"] == "s3://b/1"
    kserve.apply(
        following(KeptPlan(plan=both, uris=uris), values, Seen(made)),
        access.INFERENCE_SERVICE,
        dry=True,
    )
    made["spec"]["predictor"]["storageURI"] = "s3://b/1"
    with pytest.raises(RefusedError, match="storageURI"):
        kserve.apply(made, access.INFERENCE_SERVICE, dry=True)


def test_a_rollout_from_its_beginning_to_its_end(
    kserve: KubeClient, model: str, mode: ServingMode
) -> None:
    given = [one.strip() for one in os.environ.get(MODELS, "").split(",") if one.strip()]
    if len(given) != 2:
        pytest.skip(f"{MODELS} must hold two addresses of model folders, between commas")
    uris = dict(zip(("1", "2"), given, strict=True))
    # From outside the cluster no pod can be asked for its role.
    serving = KServeServing(
        kserve,
        ServedAs(mode, kserve.namespace),
        lambda _, version: uris[version],
        role_of=lambda _: None,
    )
    first: set[str] = set()
    for wanted in way(model):
        serving.apply(wanted)
        seen = _until_carried_out(serving, wanted)
        assert {r.version for r in seen.revisions} == {r.version for r in wanted.revisions}
        assert all(r.ready and r.address and r.restarts == 0 for r in seen.revisions)
        pods = kserve.list(
            access.POD, {"heliotrope.dev/model": model, "heliotrope.dev/version": "2"}
        )
        names = {pod["metadata"]["name"] for pod in pods}
        first = first or names
        if mode is ServingMode.STANDARD:
            assert first <= names, "a pod of the candidate was replaced"


def _until_carried_out(serving: KServeServing, wanted: ServingPlan) -> ObservedServing:
    end = time.monotonic() + PATIENCE
    positive = {v: share for v, share in wanted.weights.items() if share}
    named = {revision.version for revision in wanted.revisions}
    while True:
        seen = serving.observe(wanted.model)
        if (
            seen is not None
            and seen.weights == positive
            and {r.version for r in seen.revisions} == named
            and all(r.ready for r in seen.revisions)
        ):
            return seen
        assert time.monotonic() < end, seen
        time.sleep(2)
