"""The API server would take every object, and kustomize has nothing to say of any."""

import copy
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CRDS = ROOT.parent / "shared" / "contracts" / "crds"
KUBECTL = Path(sys.executable).with_name("kubectl")
CUSTOM = ("kserve.io", "coreos.com", "knative.dev")
SECRET_LOOKS = re.compile(
    r"://[^/\s:@{]+:[^@\s{]+@"  # a password in an address
    r"|-----BEGIN|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}|\beyJ[\w-]{20,}\."
)
CASES = [
    ({"kind": "Secret", "data": {"token": "c2VjcmV0"}}, True),
    ({"kind": "ConfigMap", "data": {"url": "postgresql://ada:secret@db/heliotrope"}}, True),
    ({"kind": "ConfigMap", "data": {"url": "postgresql://db/heliotrope"}}, False),
]


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 reads a lone `=`, an operator's value of Alertmanager's, as a tag of its own."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def test_kustomize_builds_without_a_warning(build: Any) -> None:
    assert build.said == ""
    assert len(build.things) > 20


def test_kubernetes_own_objects_have_known_fields_only(build: Any) -> None:
    own = [one for one in build.things if not _custom(one)]
    for one in own:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    assert {"Deployment", "Role", "NetworkPolicy", "HorizontalPodAutoscaler"} <= {
        one["kind"] for one in own
    }


def test_custom_objects_fit_their_definitions_with_unknown_fields_refused(build: Any) -> None:
    if not CRDS.is_dir():
        pytest.skip("The peers' CRDs must be in ../shared/contracts/crds. They are not here.")
    schemas = _crds()
    found = [one for one in build.things if _custom(one)]
    for one in found:
        schema = schemas[one["apiVersion"], one["kind"]]
        errors = list(jsonschema.Draft7Validator(schema).iter_errors(one))
        assert not errors, f"{one['kind']} {one['metadata']['name']}: {errors[0].message}"
    assert "ServingRuntime" in {one["kind"] for one in found}


def test_a_typing_error_in_a_custom_object_would_be_seen(build: Any) -> None:
    if not CRDS.is_dir():
        pytest.skip("The peers' CRDs must be in ../shared/contracts/crds. They are not here.")
    wrong = copy.deepcopy(build.runtime())
    wrong["spec"]["containers"][0]["readynessProbe"] = {}
    schema = _crds()[wrong["apiVersion"], wrong["kind"]]
    with pytest.raises(jsonschema.ValidationError, match="readynessProbe"):
        jsonschema.Draft7Validator(schema).validate(wrong)


def test_knative_would_take_the_runtime_of_its_overlay(overlay: Any) -> None:
    if not CRDS.is_dir():
        pytest.skip("The peers' CRDs must be in ../shared/contracts/crds. They are not here.")
    service = _crds()["serving.knative.dev/v1", "Service"]
    container = service["properties"]["spec"]["properties"]["template"]["properties"]["spec"][
        "properties"
    ]["containers"]["items"]
    (ours,) = overlay.runtime()["spec"]["containers"]
    fits = jsonschema.Draft7Validator(container).is_valid(ours) and len(ours["ports"]) == 1
    assert fits is (overlay.name == "overlays/knative")


def test_every_image_is_pinned_by_digest(overlay: Any) -> None:
    images = {
        container["image"]
        for _, _, pod in overlay.pods()
        for container in [*pod["containers"], *pod.get("initContainers", [])]
    } | {one["image"] for one in overlay.runtime()["spec"]["containers"]}
    assert len(images) >= 2
    # What kind loads it knows by tag alone.
    pinned = r"\S+:(?!latest)[\w.-]+" if "local" in overlay.name else r"\S+@sha256:[0-9a-f]{64}"
    assert not [one for one in images if not re.fullmatch(pinned, one)]


def test_no_object_holds_a_secret(build: Any) -> None:
    assert not [one["metadata"]["name"] for one in build.things if _tells(one)]


@pytest.mark.parametrize(("thing", "told"), CASES)
def test_a_secret_in_an_object_would_be_seen(thing: dict[str, Any], told: bool) -> None:
    assert _tells(thing) is told


def test_objects_are_in_one_namespace_and_named_once(build: Any) -> None:
    keys = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in build.things]
    assert len(keys) == len(set(keys))
    spaces = {
        one["metadata"].get("namespace") for one in build.things if one["kind"] != "Namespace"
    }
    assert spaces == {"heliotrope"}


def test_a_tenants_namespace_is_named_in_two_files_only(tmp_path: Path) -> None:
    for folder in ("manifests", "dashboards/grafana"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    mine = tmp_path / "manifests" / "overlays" / "multi-user"
    for file in (mine / "kustomization.yaml", mine / "places" / "places.env"):
        text = file.read_text()
        text = text.replace("namespace: heliotrope", "namespace: tenant")
        file.write_text(text.replace("_NAMESPACE=heliotrope", "_NAMESPACE=tenant"))

    done = subprocess.run(
        [KUBECTL, "kustomize", mine], capture_output=True, text=True, timeout=120, check=True
    )

    left = r"(?i:namespace): heliotrope$|[./]heliotrope\.(svc|pod)"
    assert not re.findall(left, done.stdout, re.MULTILINE)
    assert "namespace: tenant" in done.stdout
    assert "http://heliotrope-controller.tenant.svc:8300/v1/alerts" in done.stdout


def _tells(thing: dict[str, Any]) -> bool:
    if thing["kind"] == "Secret":
        return bool(thing.get("data") or thing.get("stringData"))
    return bool(SECRET_LOOKS.search(yaml.safe_dump(thing)))


def _custom(thing: dict[str, Any]) -> bool:
    group = thing["apiVersion"].rpartition("/")[0]
    return group.endswith(CUSTOM)


@cache
def _crds() -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for path in CRDS.glob("*.yaml"):
        for crd in yaml.load_all(path.read_text(), Loader=_Loader):
            for version in crd["spec"]["versions"]:
                name = f"{crd['spec']['group']}/{version['name']}"
                schema = _closed(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                found[name, crd["spec"]["names"]["kind"]] = schema
    return found


def _closed(schema: Any) -> Any:
    """The schema with unknown fields refused, as the API server drops them without a word."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    keeps = made.get("x-kubernetes-preserve-unknown-fields")
    properties = made.get("properties")
    if isinstance(properties, dict) and "additionalProperties" not in made and not keeps:
        made["additionalProperties"] = False
    return made
