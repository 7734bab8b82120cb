"""Each pod is restricted, finds what it refers to, and can be asked, stopped and moved."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from heliotrope import vocabulary as names
from heliotrope.adapters.inference_service import STOP_SECONDS
from heliotrope.settings import Settings
from pipelines.placing import PLACES
from predictors.settings import PredictorSettings, environment_name, parse_settings

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTED = re.compile(r"^ *\| `(heliotrope-[\w-]+)` \| `([\w-]+)`", re.MULTILINE)


def test_every_pod_is_restricted(build: Any) -> None:
    for whose, _, pod in build.pods():
        above = pod["securityContext"]
        assert above["runAsNonRoot"] is True, whose
        assert above["runAsUser"] > 0, whose
        assert above["seccompProfile"] == {"type": "RuntimeDefault"}, whose
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), whose
        for container in _containers(pod):
            _restricted(container, whose)
        assert not [one for one in pod.get("volumes", []) if "hostPath" in one], whose


def test_the_predictor_is_restricted(build: Any) -> None:
    (container,) = build.runtime()["spec"]["containers"]
    _restricted(container, "predictor")
    # A ServingRuntime has no field for the pod's.
    assert container["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["runAsUser"] > 0


def test_every_container_says_what_it_needs_and_is_held_to_it(build: Any) -> None:
    for whose, _, pod in build.pods():
        for container in _containers(pod):
            _sized(container, whose)
    _sized(build.runtime()["spec"]["containers"][0], "predictor")


def test_whatever_serves_is_asked_whether_it_can(build: Any) -> None:
    served = [one for _, _, pod in build.pods() for one in pod["containers"] if "ports" in one]
    for container in [*served, *build.runtime()["spec"]["containers"]]:
        ports = {port["containerPort"] for port in container["ports"]} | {
            port.get("name") for port in container["ports"]
        }
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[probe].get("httpGet") or container[probe].get("tcpSocket")
            if asked:
                assert asked["port"] in ports
    assert served


def test_a_predictor_is_ready_when_its_model_is(build: Any) -> None:
    (container,) = build.runtime()["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/models/{{.Name}}/ready"


def test_a_predictors_settings_are_ones_it_knows(build: Any) -> None:
    (container,) = build.runtime()["spec"]["containers"]
    given = [one.replace("{{.Name}}", "credit-risk") for one in container["args"]]
    environment = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    flags = {environment_name(one.name) for one in fields(PredictorSettings)}
    others = {names.ENV_COLLECTOR_URL, names.ENV_COLLECTOR_TOKEN, "OMP_NUM_THREADS"}
    assert {one["name"] for one in container["env"]} <= flags | others
    settings = parse_settings(given, environment)
    assert settings.model_name == "credit-risk"
    spool = _volume(build.runtime()["spec"], "spool")["emptyDir"]["sizeLimit"]
    assert settings.spool_max_bytes < int(spool.removesuffix("Mi")) << 20
    assert str(settings.spool_dir) in {one["mountPath"] for one in container["volumeMounts"]}


def test_a_predictor_is_given_the_time_that_its_three_steps_of_stopping_take(overlay: Any) -> None:
    (container,) = overlay.runtime()["spec"]["containers"]
    given = {one["name"]: one.get("value", "") for one in container["env"]}
    steps = int(given["HELIOTROPE_GRACE_SECONDS"]) + int(given["HELIOTROPE_DRAIN_SECONDS"])
    if "lifecycle" in container:
        steps += container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert steps < STOP_SECONDS


def test_every_mounted_volume_is_there_and_every_volume_is_mounted(build: Any) -> None:
    pods = [*build.pods(), ("predictor", {}, build.runtime()["spec"])]
    for whose, _, pod in pods:
        there = {one["name"] for one in pod.get("volumes", [])}
        there |= {one["metadata"]["name"] for one in pod.get("volumeClaimTemplates", [])}
        mounted = {
            mount["name"] for one in _containers(pod) for mount in one.get("volumeMounts", [])
        }
        assert mounted >= there, whose


def test_every_configmap_that_is_referred_to_is_there(overlay: Any) -> None:
    there = {one["metadata"]["name"]: one.get("data", {}) for one in overlay.of("ConfigMap")}
    referred = list(_references(overlay, "configMap"))
    for name, key, optional in referred:
        assert optional or name in there, name
        assert optional or key is None or key in there[name], (name, key)
    assert ("heliotrope-places", "HELIOTROPE_COLLECTOR_URL", False) in referred


def test_every_secret_that_is_referred_to_is_documented(build: Any) -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    documented = set(DOCUMENTED.findall(page))
    names_documented = {name for name, _ in documented}
    for name, key, _ in _references(build, "secret"):
        assert name in names_documented, name
        assert key is None or (name, key) in documented, (name, key)


def test_places_are_named_as_the_code_reads_them(overlay: Any) -> None:
    places = overlay.named("ConfigMap", "heliotrope-places")["data"]
    known = {value for key, value in vars(names).items() if key.startswith("ENV_")}
    assert set(places) <= known | {"AWS_REGION", "AWS_ENDPOINT_URL"}
    settings = Settings.parse(places, Path("/"))
    assert settings.place is names.Place.CLUSTER
    assert (settings.cluster.mode is names.ServingMode.KNATIVE) is ("knative" in overlay.name)
    assert settings.tracking_uri == places[names.ENV_TRACKING]
    assert names.ENV_COLLECTOR_URL in places
    assert set(PLACES) <= set(places)


def test_selectors_choose_pods_that_are_there(build: Any) -> None:
    pods = [labels for _, labels, _ in build.pods()]
    pods.append(build.runtime()["spec"]["labels"])
    for one in build.of("Deployment", "StatefulSet"):
        assert _chosen(one["spec"]["selector"], [one["spec"]["template"]["metadata"]["labels"]])
    for one in build.of("PodDisruptionBudget", "PodMonitor"):
        assert _chosen(one["spec"]["selector"], pods), one["metadata"]["name"]
    for one in build.of("NetworkPolicy"):
        assert _chosen(one["spec"]["podSelector"], pods), one["metadata"]["name"]
    for _, labels, pod in build.pods():
        for spread in pod.get("topologySpreadConstraints", []):
            assert _chosen(spread["labelSelector"], [labels])


def test_services_reach_ports_of_the_pods_they_choose(build: Any) -> None:
    pods = [(labels, pod) for _, labels, pod in build.pods()]
    runtime = build.runtime()["spec"]
    pods.append((runtime["labels"], runtime))
    services = build.of("Service")
    for service in services:
        wanted = service["spec"]["selector"]
        found = [pod for labels, pod in pods if wanted.items() <= labels.items()]
        assert len(found) == 1, service["metadata"]["name"]
        ports = [port for one in found[0]["containers"] for port in one.get("ports", [])]
        numbers = [one["containerPort"] for one in ports]
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in [*(one["name"] for one in ports), *numbers]
            assert port["port"] in numbers
    assert services


def test_the_autoscaler_alone_says_how_many(build: Any) -> None:
    for scaler in build.of("HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        assert "replicas" not in build.named(target["kind"], target["name"])["spec"]
        assert scaler["spec"]["minReplicas"] >= (1 if build.name == "overlays/local" else 2)


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["containers"], *pod.get("initContainers", [])]


def _restricted(container: dict[str, Any], whose: str) -> None:
    held = container["securityContext"]
    assert held["allowPrivilegeEscalation"] is False, whose
    assert held["privileged"] is False, whose
    assert held["readOnlyRootFilesystem"] is True, whose
    assert held["runAsNonRoot"] is True, whose
    assert held["capabilities"] == {"drop": ["ALL"]}, whose


def _sized(container: dict[str, Any], whose: str) -> None:
    sizes = container["resources"]
    for one in ("cpu", "memory", "ephemeral-storage"):
        assert sizes["requests"][one], whose
        assert sizes["limits"][one], whose


def _volume(pod: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in pod["volumes"] if one["name"] == name]
    return dict(found)


def _references(build: Any, kind: str) -> list[tuple[str, str | None, bool]]:
    """(name, key, optional) of each ConfigMap or Secret that something needs."""
    found: list[tuple[dict[str, Any], str | None]] = []
    for pod in [*(pod for _, _, pod in build.pods()), build.runtime()["spec"]]:
        found += [(one[kind], None) for one in pod.get("volumes", []) if kind in one]
        for container in _containers(pod):
            sources = container.get("envFrom", [])
            found += [(one[f"{kind}Ref"], None) for one in sources if f"{kind}Ref" in one]
            values = [one.get("valueFrom", {}) for one in container.get("env", [])]
            keys = [one[f"{kind}KeyRef"] for one in values if f"{kind}KeyRef" in one]
            found += [(one, one["key"]) for one in keys]
    hooks = [
        hook
        for one in build.of("AlertmanagerConfig")
        for receiver in one["spec"]["receivers"]
        for hook in receiver["webhookConfigs"]
    ]
    if kind == "secret":
        shown = [hook["httpConfig"]["authorization"]["credentials"] for hook in hooks]
        found += [(one, one["key"]) for one in shown]
    return [
        (held.get("secretName") or held["name"], key, held.get("optional", False))
        for held, key in found
    ]


def _chosen(selector: dict[str, Any], pods: list[dict[str, str]]) -> list[dict[str, str]]:
    def fits(labels: dict[str, str]) -> bool:
        wanted = selector.get("matchLabels", {}).items() <= labels.items()
        for one in selector.get("matchExpressions", []):
            assert one["operator"] == "In"
            wanted = wanted and labels.get(one["key"]) in one["values"]
        return wanted

    return [labels for labels in pods if fits(labels)]
