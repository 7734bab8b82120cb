"""The objects for KServe: valid by its CRD, and nothing in them changes while a version runs."""

import copy
from typing import Any

import pytest

from heliotrope.adapters.inference_service import (
    KeptPlan,
    Seen,
    ServedAs,
    ServingMode,
    first_of,
    inference_service,
    plan_object,
    predictor,
    read_plan,
    roles_object,
)
from heliotrope.vocabulary import LABEL_VERSION, Role
from predictors.settings import parse_settings
from tests.emulated.contracts import CRDS, contract
from tests.emulated.kserve_controller import admit
from tests.emulated.kserve_steps import BAKE, HALF, MODEL, ONE, WAY, Cluster, plan
from tests.emulated.schemas import problems

KSERVE = ("serving.kserve.io", "v1beta1", "inferenceservices")


@pytest.fixture(params=ServingMode)
def written(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Every InferenceService that a whole rollout asks for."""
    here, found = Cluster(request.param, replicas=2), []

    def keep(before: dict[str, Any] | None, after: dict[str, Any]) -> str | None:
        if after["kind"] == "InferenceService":
            found.append(copy.deepcopy(after))
        return admit(before, after)

    here.api.admit = keep
    for one in (*WAY, plan({"2": Role.CHAMPION, "3": Role.SHADOW}, v2=100, v3=0)):
        here.settle(one)
    here.api.stop()
    return found


def spec_of(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("apiVersion", "kind", "metadata", "spec")}


def test_all_that_is_asked_for_is_valid_and_a_typo_would_not_be(
    written: list[dict[str, Any]],
) -> None:
    contract(CRDS)
    assert len(written) >= 6
    for one in written:
        assert problems(*KSERVE, spec_of(one)) == []
    wrong = spec_of(copy.deepcopy(written[-1]))
    wrong["spec"]["predictor"]["storageURI"] = "s3://x"
    assert any("storageURI" in text for _, text in problems(*KSERVE, wrong))
    wrong = spec_of(copy.deepcopy(written[-1]))
    wrong["spec"]["canary"] = [{"predictor": {}, "trafficPercent": 101}]
    assert any("101" in text for _, text in problems(*KSERVE, wrong))


def test_nothing_of_a_version_changes_while_it_runs(written: list[dict[str, Any]]) -> None:
    still: dict[str, Any] = {}
    for one in written:
        metadata = {key: one["metadata"].get(key) for key in ("labels", "annotations")}
        assert still.setdefault("metadata", metadata) == metadata
        parts = [one["spec"]["predictor"]]
        parts += [canary["predictor"] for canary in one["spec"].get("canary") or []]
        for part in parts:
            body = {
                k: v for k, v in part.items() if k not in ("minReplicas", "canaryTrafficPercent")
            }
            version = body["labels"][LABEL_VERSION]
            assert still.setdefault(version, body) == body


def test_a_predictor_reads_its_version_and_its_role_from_what_is_set(tmp_path: Any) -> None:
    made = predictor(MODEL, "2", "s3://b/2", ServedAs(ServingMode.STANDARD, "shop"), 1)
    given = {one["name"]: one["value"] for one in made["model"]["env"]}
    settings = parse_settings([], given)
    assert settings.model_version == "2"
    # Nobody has told it yet.
    assert settings.role is Role.SHADOW
    mount = made["model"]["volumeMounts"][0]
    roles = roles_object(HALF, ServedAs(ServingMode.STANDARD, "shop"))
    assert made["volumes"][0]["configMap"] == {"name": roles["metadata"]["name"], "optional": True}
    assert str(settings.role_file) == f"{mount['mountPath']}/2"
    (tmp_path / "2").write_text(roles["data"]["2"])
    assert parse_settings([f"--role_file={tmp_path / '2'}"], given).role is Role.CANARY


def test_knative_gets_no_field_that_it_refuses() -> None:
    made = predictor(MODEL, "2", "s3://b/2", ServedAs(ServingMode.KNATIVE, "shop"), 1)
    refused = {"terminationGracePeriodSeconds", "securityContext", "topologySpreadConstraints"}
    assert not refused & made.keys()
    assert "name" not in made
    standard = predictor(MODEL, "2", "s3://b/2", ServedAs(ServingMode.STANDARD, "shop"), 1)
    assert refused <= standard.keys()


def test_the_pods_are_as_many_as_are_asked_for() -> None:
    standard = inference_service(MODEL, ServedAs(ServingMode.STANDARD, "shop"), {})["metadata"]
    assert standard["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
    knative = inference_service(MODEL, ServedAs(ServingMode.KNATIVE, "shop"), {})["metadata"]
    assert "serving.kserve.io/autoscalerClass" not in knative["annotations"]


def test_a_plan_is_kept_whole() -> None:
    kept = KeptPlan(plan=BAKE, uris={"1": "s3://b/1", "2": "s3://b/2"})
    assert read_plan(plan_object(kept, ServedAs(ServingMode.STANDARD, "shop"))) == kept
    assert read_plan(None) is None


def test_the_first_version_is_the_one_with_the_traffic() -> None:
    assert first_of(ONE) == "1"
    assert first_of(BAKE) == "2"
    assert first_of(HALF) == "1"
    assert first_of(plan({"1": Role.CANARY, "2": Role.CHAMPION}, v1=50, v2=50)) == "2"


def test_conditions_that_are_not_there_are_not_true() -> None:
    values = ServedAs(ServingMode.STANDARD, "shop")
    assert Seen(None).condition("Ready") == (False, "")
    isvc = inference_service(MODEL, values, {})
    isvc["status"] = {
        "url": "http://x/",
        "conditions": [{"type": "Ready", "status": "Unknown", "reason": "Deploying"}],
    }
    seen = Seen(isvc)
    assert (seen.condition("Ready"), seen.gateway) == ((False, "Deploying"), "http://x")
