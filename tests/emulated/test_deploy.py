"""`heliotrope deploy`, `destroy` and `doctor`, over HTTP, on emulated Kubernetes and KFP."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from heliotrope.adapters.cluster import deploy_objects
from heliotrope.adapters.cluster.kfp_pipelines import pipeline_name
from heliotrope.errors import UnavailableError, UsageError
from heliotrope.spec import load_spec
from heliotrope.spec.loading import dump_spec
from pipelines.compile import COMPILED
from tests.emulated.api_http import Fault as KubeFault
from tests.emulated.apiserver import KINDS, ApiServer
from tests.emulated.contracts import KFP, contract
from tests.emulated.kfp_api import FakeKfp, Fault, serve
from tests.emulated.swagger import Swagger


@dataclass
class Cluster:
    """Both servers, and a workshop whose commands reach them."""

    api: ApiServer
    kfp: FakeKfp
    shop: Any

    def objects(self) -> set[tuple[str, str]]:
        """Kind and name of all that is there."""
        return {(key[1], key[3]) for key in self.api.objects}

    def writes(self) -> int:
        """Requests so far that may have changed something."""
        kube = sum(
            method != "GET" and "accessreviews" not in path for method, path in self.api.asked
        )
        return kube + sum(method != "GET" for method, _ in self.kfp.asked)

    def put(self, plural: str, group: str, name: str, **fields: Any) -> None:
        """An object that somebody else made."""
        metadata = {"name": name, "labels": fields.pop("labels", {})}
        metadata |= fields.pop("metadata", {})
        self.api.put((group, plural, "shop", name), {"metadata": metadata, **fields})


@pytest.fixture
def cluster(workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A namespace `shop` of a cluster with KServe and the Gateway API."""
    api = ApiServer().start()
    api.kinds = {**KINDS, ("gateway.networking.k8s.io", "httproutes"): "v1"}
    kubeconfig = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": api.url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}
        ],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("HELIOTROPE_PATIENCE", "2")
    # Only where a controller runs is there one to wait for.
    monkeypatch.setattr(deploy_objects, "LET_GO_SECONDS", 0.0)
    with serve(FakeKfp(Swagger(contract(KFP)))) as kfp:
        monkeypatch.setenv("HELIOTROPE_KFP_URL", kfp.url)
        yield Cluster(api, kfp, workshop)
    api.stop()


def test_a_deployment_is_shown_made_once_changed_and_taken_away(cluster: Cluster) -> None:
    shop = cluster.shop
    file = shop.write(shop.loans())
    before = cluster.writes()
    shown = shop.cli("deploy", str(file), "--dry-run")
    assert shown.code == 0, shown.err
    assert "+ ConfigMap heliotrope-spec-toy" in shown.out
    assert "      + name: toy" in shown.out
    assert "Nothing was done." in shown.out
    assert (cluster.objects(), cluster.writes()) == (set(), before)

    made = shop.cli("deploy", str(file))
    assert made.code == 0, made.err
    assert "+ RecurringRun toy-monitoring" in made.out
    assert "= InferenceService toy  no champion yet" in made.out
    assert made.out.splitlines()[-1].startswith("Done: ")
    kept = cluster.api.find("configmaps", "heliotrope-spec-toy")
    assert kept is not None
    assert kept["data"] == {"toy.yaml": dump_spec(load_spec(file))}
    names = {one["display_name"] for one in cluster.kfp.pipelines.values()}
    assert names == {pipeline_name(file.read_text()) for file in COMPILED.glob("*.yaml")}

    before = cluster.writes()
    again = shop.cli("deploy", str(file))
    assert (again.code, cluster.writes()) == (0, before)
    assert again.out.splitlines()[-1].startswith("Nothing to do: ")

    file.write_text(file.read_text().replace("max_iter: 20", "max_iter: 25"))
    shown = shop.cli("deploy", str(file), "--dry-run")
    assert "~ ConfigMap heliotrope-spec-toy" in shown.out
    assert "-     max_iter: 20" in shown.out
    assert "+     max_iter: 25" in shown.out
    assert "~ parameter spec changed" in shown.out
    assert shop.cli("deploy", str(file)).out.splitlines()[-1].startswith("Done: 2 changed")
    (recurring,) = cluster.kfp.recurring.values()
    assert "max_iter: 25" in recurring["runtime_config"]["parameters"]["spec"]

    cluster.put("configmaps", "", "somebody-elses", data={"a": "b"})
    gone = shop.cli("destroy", "toy", "--yes")
    assert gone.code == 0, gone.err
    assert "- ConfigMap heliotrope-spec-toy" in gone.out
    assert cluster.objects() == {("configmaps", "somebody-elses")}
    assert (cluster.kfp.recurring, cluster.kfp.pipelines) == ({}, {})
    again = shop.cli("destroy", "toy", "--yes")
    assert again.out.splitlines()[-1].startswith("Nothing to do: ")


def test_the_champion_is_served_and_pipelines_stay_for_other_models(cluster: Cluster) -> None:
    shop = cluster.shop
    shop.write(shop.loans())
    assert shop.train().alias == "champion"
    made = shop.cli("deploy", "model.yaml")
    assert "+ InferenceService toy  version 1, the champion, gets all traffic" in made.out, made.err
    isvc = cluster.api.find("inferenceservices", "toy")
    assert isvc is not None
    assert isvc["spec"]["predictor"]["labels"]["heliotrope.dev/version"] == "1"
    before = cluster.writes()
    again = shop.cli("deploy", "model.yaml")
    assert "version 1 as champion, 100%; the controller moves it" in again.out
    assert cluster.writes() == before
    # Somebody deletes it: a deployment puts it back as the plan says.
    cluster.api.drop(("serving.kserve.io", "inferenceservices", "shop", "toy"))
    assert shop.cli("deploy", "model.yaml").out.splitlines()[-1].startswith("Done: 1 made")
    assert cluster.api.find("inferenceservices", "toy") is not None

    (shop.folder / "other.yaml").write_text(
        (shop.folder / "model.yaml").read_text().replace("name: toy", "name: other")
    )
    assert shop.cli("deploy", "other.yaml").code == 0
    gone = json.loads(shop.cli("destroy", "toy", "--yes", "--json").out)
    by_name = {(one["kind"], one["name"]): one for one in gone}
    assert by_name["InferenceService", "toy"]["state"] == "done"
    pipelines = [one for one in gone if one["kind"] == "Pipeline"]
    assert pipelines
    assert all((one["action"], one["why"]) == ("keep", "other run it too") for one in pipelines)
    assert cluster.objects() == {("configmaps", "heliotrope-spec-other")}
    assert {one["display_name"] for one in cluster.kfp.recurring.values()} == {"other-monitoring"}


def test_what_was_not_made_by_us_is_left_alone(cluster: Cluster) -> None:
    shop = cluster.shop
    file = shop.write(shop.loans())
    cluster.put("inferenceservices", "serving.kserve.io", "toy", spec={"predictor": {}})
    made = shop.cli("deploy", str(file))
    assert "= InferenceService toy  it was not made by Heliotrope" in made.out
    gone = shop.cli("destroy", str(file), "--yes")
    assert "= InferenceService toy  it was not made by Heliotrope" in gone.out
    assert cluster.objects() == {("inferenceservices", "toy")}


def test_a_failure_says_what_was_done_and_what_not(cluster: Cluster) -> None:
    shop = cluster.shop
    file = shop.write(shop.loans())
    cluster.kfp.faults.append(Fault("POST", "recurringruns", status=400, text='{"message": "no"}'))
    failed = shop.cli("deploy", str(file), "--json")
    assert failed.code == UsageError.exit_code
    states = {(one["kind"], one["name"]): one["state"] for one in json.loads(failed.out)}
    assert states["ConfigMap", "heliotrope-spec-toy"] == "done"
    assert states["RecurringRun", "toy-monitoring"] == "failed"
    assert states["InferenceService", "toy"] == "not_tried"
    told = shop.cli("deploy", str(file))
    assert (told.code, "+ RecurringRun toy-monitoring" in told.out) == (0, True)
    assert told.out.splitlines()[-1].startswith("Done: 1 made")

    cluster.api.faults.append(KubeFault(403, 1000, method="PATCH"))
    file.write_text(file.read_text().replace("max_iter: 20", "max_iter: 25"))
    refused = shop.cli("deploy", str(file))
    assert refused.code == UnavailableError.exit_code
    assert "! ConfigMap heliotrope-spec-toy" in refused.out
    assert "Stopped: 0 done, 2 not." in refused.out


def test_destroying_asks_first(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = cluster.shop
    file = shop.write(shop.loans())
    assert shop.cli("deploy", str(file)).code == 0
    here = cluster.objects()
    # Nobody answers: it is a no.
    asked = shop.run("destroy", "toy")
    assert (asked.code, cluster.objects()) == (130, here)
    assert "Remove them?" in asked.out + asked.err
    shown = shop.cli("destroy", "toy", "--dry-run")
    assert "- ConfigMap heliotrope-spec-toy" in shown.out
    assert cluster.objects() == here
    assert shop.cli("destroy", "toy", "--json").code == UsageError.exit_code


def test_a_cluster_that_does_not_answer_is_said_so(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = cluster.shop
    file = shop.write(shop.loans())
    config = Path(shop.folder / "kubeconfig")
    config.write_text(config.read_text().replace(cluster.api.url, "http://127.0.0.1:1"))
    monkeypatch.setenv("HELIOTROPE_PATIENCE", "0.3")
    for words in (["deploy", str(file)], ["destroy", "toy", "--yes"], ["doctor"]):
        said = shop.cli(*words)
        assert said.code == UnavailableError.exit_code, words
        assert "Kubernetes' API at http://127.0.0.1:1 must answer" in said.err
    monkeypatch.setenv("KUBECONFIG", str(shop.folder / "nowhere"))
    said = shop.cli("doctor")
    assert (said.code, "KUBECONFIG must name" in said.err) == (UsageError.exit_code, True)


def test_the_doctor_finds_what_lacks_until_nothing_does(cluster: Cluster) -> None:
    shop = cluster.shop
    said = shop.cli("doctor", "--json")
    assert said.code == 1, said.err
    found = {one["topic"]: one for one in json.loads(said.out)}
    assert found["Kubernetes"]["says"].startswith("v1.33.0 at http://127.0.0.1")
    lacking = {topic for topic, one in found.items() if one["standing"] == "lacks"}
    assert lacking == {"ServingRuntime", "Storage credentials"}
    assert found["KServe's mode"]["standing"] == "ok"
    assert found["Traffic split"]["standing"] == "unknown"

    cluster.put(
        "servingruntimes", "serving.kserve.io", "heliotrope-tabular",
        spec={"containers": [{"image": "r/p@sha256:1"}]},
    )  # fmt: skip
    cluster.put("serviceaccounts", "", "heliotrope-predictor", secrets=[{"name": "store"}])
    cluster.api.put(
        ("", "configmaps", "kserve", "inferenceservice-config"),
        {"metadata": {"name": "inferenceservice-config"},
         "data": {"ingress": '{"enableGatewayApi": true}', "deploy": "{}"}},
    )  # fmt: skip
    well = shop.cli("doctor")
    assert well.code == 0, well.out
    assert "✓ Traffic split" in well.out
    assert "- Pipelines" in well.out
    assert shop.cli("deploy", str(shop.write(shop.loans()))).code == 0
    assert "✓ Pipelines" in shop.cli("doctor").out
    # Looking changes nothing.
    assert ("inferenceservices", "heliotrope-doctor") not in cluster.objects()


def test_the_doctor_names_what_an_account_may_not_do(cluster: Cluster) -> None:
    everything = {"verbs": ["get", "list"], "apiGroups": ["", "serving.kserve.io"],
                  "resources": ["configmaps", "inferenceservices", "pods"]}  # fmt: skip
    cluster.api.rules = {"t": [everything]}
    found = {one["topic"]: one for one in json.loads(cluster.shop.cli("doctor", "--json").out)}
    assert found["RBAC"]["standing"] == "lacks"
    assert "patch inferenceservices.serving.kserve.io" in found["RBAC"]["says"]
    assert "list pods" not in found["RBAC"]["says"]
    assert "--role=heliotrope-deployer" in found["RBAC"]["remedy"]
    assert found["KServe's mode"]["standing"] == "unknown"


def test_a_controller_starts_anew_with_what_is_deployed_and_holds_the_lease(
    cluster: Cluster,
) -> None:
    shop = cluster.shop
    file = shop.write(shop.loans())
    words = ("controller", "--port", "0", "--tick-seconds", "0.2", "--standby")
    env = {"HELIOTROPE_PLACE": "cluster", "HELIOTROPE_CONTROLLER_TOKEN": "a-token-for-this-test"}
    first = shop.start(*words, **env)
    assert first.stdout is not None
    assert first.stdout.readline().rstrip().endswith("keeps no model yet.")
    assert shop.cli("deploy", str(file)).code == 0
    ended = shop.end(first)
    assert (ended.code, "Models were deployed or destroyed" in ended.err) == (0, True), ended.err

    second = shop.start(*words, **env)
    assert second.stdout is not None
    told = second.stdout.readline()
    assert told.rstrip().endswith("keeps toy."), told
    url = told.split()[2].rstrip(",")
    until(lambda: b"ready" in ask(f"{url}/readyz"))
    lease = cluster.api.find("leases", "heliotrope-controller")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == socket.gethostname()
    second.terminate()
    assert shop.end(second).code == 0
    given_back = cluster.api.find("leases", "heliotrope-controller")
    assert given_back is not None
    assert not given_back["spec"].get("holderIdentity")


def ask(url: str) -> bytes:
    """The answer's body; empty while it does not say 200."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return bytes(answer.read())
    except urllib.error.URLError:
        return b""


def until(holds: Callable[[], bool]) -> None:
    """Await a condition; the bound is only for a test that would fail."""
    pause = threading.Event()
    for _ in range(2000):
        if holds():
            return
        pause.wait(0.1)
    raise AssertionError("it never came to be")
