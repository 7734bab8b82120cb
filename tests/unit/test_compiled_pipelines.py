"""The compiled pipelines are whole, and a broken one is recognised."""

from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from heliotrope import vocabulary as names
from heliotrope.adapters.cluster.kfp_pipelines import version_name, with_image
from heliotrope.adapters.embedded.run_pipeline import once
from pipelines.compile import COMPILED, MANIFESTS, PIPELINES, problems
from tests.emulated.contracts import CRDS, contract

TEXT = (COMPILED / "training.yaml").read_text()


def spec() -> dict[str, Any]:
    loaded: dict[str, Any] = next(yaml.safe_load_all(TEXT))
    return loaded


@pytest.mark.parametrize("name", PIPELINES)
def test_a_compiled_pipeline_has_no_problem(name: str) -> None:
    assert problems((COMPILED / name).read_text()) == []


def drop_component(broken: dict[str, Any]) -> str:
    del broken["components"]["comp-train-model"]
    return "component comp-train-model, which is not there"


def drop_executor(broken: dict[str, Any]) -> str:
    del broken["deploymentSpec"]["executors"]["exec-train-model"]
    return "executor exec-train-model, which is not there"


def drop_output(broken: dict[str, Any]) -> str:
    del broken["components"]["comp-snapshot-data"]["outputDefinitions"]
    return "reads snapshot-data.snapshot"


def drop_parent_input(broken: dict[str, Any]) -> str:
    del broken["root"]["inputDefinitions"]["parameters"]["spec"]
    return "reads the parent's spec"


def misname_dependency(broken: dict[str, Any]) -> str:
    broken["root"]["dag"]["tasks"]["report-outcome"]["dependentTasks"] = ["nothing"]
    return "depends on task nothing"


def add_unknown_field(broken: dict[str, Any]) -> str:
    broken["root"]["colour"] = "red"
    return "colour"


@pytest.mark.parametrize(
    "breakage",
    [
        drop_component,
        drop_executor,
        drop_output,
        drop_parent_input,
        misname_dependency,
        add_unknown_field,
    ],
)
def test_a_broken_pipeline_is_recognised(breakage: Any) -> None:
    broken = spec()
    expected = breakage(broken)
    assert any(expected in problem for problem in problems(yaml.safe_dump(broken)))


def tasks(body: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(body, dict):
        found |= body.get("tasks", {})
        for value in body.values():
            found |= tasks(value)
    return found


STEPS = {"monitoring.yaml": 6, "retraining.yaml": 1, "training.yaml": 11}
PURE = {"gate-model"}
"""Computes from its inputs alone."""
STATEFUL = {
    "ask-retraining",
    "await-rollout",
    "decide-retraining",
    "deploy-candidate",
    "snapshot-data",
}
"""Read or write what the controller remembers."""


@dataclass(frozen=True)
class Step:
    """One step of a compiled pipeline: its task, its container, its place on a cluster."""

    name: str
    task: dict[str, Any]
    container: dict[str, Any]
    placed: dict[str, Any]


def steps(pipeline: str) -> list[Step]:
    document, platform = yaml.safe_load_all((COMPILED / pipeline).read_text())
    executors = document["deploymentSpec"]["executors"]
    placed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    found = []
    for name, task in tasks(document).items():
        label = document["components"][task["componentRef"]["name"]].get("executorLabel")
        if label is not None:
            found.append(Step(name, task, executors[label]["container"], placed[label]))
    return found


EVERY_STEP = [
    pytest.param(step, id=f"{pipeline}:{step.name}")
    for pipeline in STEPS
    for step in steps(pipeline)
]


def secrets(step: Step) -> dict[str, bool]:
    return {one["secretName"]: one["optional"] for one in step.placed.get("secretAsEnv", [])}


@pytest.mark.parametrize("pipeline", STEPS)
def test_all_steps_are_looked_at(pipeline: str) -> None:
    assert pipeline in PIPELINES
    assert len(steps(pipeline)) == STEPS[pipeline]


@pytest.mark.parametrize("step", EVERY_STEP)
def test_a_step_has_bounds_an_end_and_no_root(step: Step) -> None:
    resources = step.container["resources"]
    for what in ("Cpu", "Memory"):
        asked, most = resources[f"resource{what}Request"], resources[f"resource{what}Limit"]
        assert kfp_quantity(asked) <= kfp_quantity(most)
    assert 60 <= int(step.placed["activeDeadlineSeconds"]) <= 30 * 86400
    assert step.placed["securityContext"] == {"runAsNonRoot": True, "runAsUser": "10001"}
    assert step.placed["podMetadata"]["labels"] == {"app.kubernetes.io/part-of": "heliotrope"}


def kfp_quantity(text: str) -> float:
    units = {"m": 1e-3, "Mi": 2**20, "Gi": 2**30}
    unit = next((one for one in units if text.endswith(one)), "")
    return float(text.removesuffix(unit)) * units.get(unit, 1)


@pytest.mark.parametrize("step", EVERY_STEP)
def test_only_what_is_pure_may_be_cached(step: Step) -> None:
    # An absent enableCache is false: protobuf leaves it out.
    assert bool(step.task["cachingOptions"].get("enableCache")) is (step.name in PURE)


@pytest.mark.parametrize("step", EVERY_STEP)
def test_a_step_is_repeated_with_growing_pauses_unless_it_ends_in_an_error_by_intent(
    step: Step,
) -> None:
    policy = step.task.get("retryPolicy")
    if step.name == "refuse-data":
        assert policy is None
        return
    assert policy == {
        "maxRetryCount": 3,
        "backoffDuration": "30s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "600s",
    }


@pytest.mark.parametrize("step", EVERY_STEP)
def test_a_step_is_told_places_and_secrets_as_variables_and_no_more_than_it_needs(
    step: Step,
) -> None:
    if step.name in PURE:
        assert "configMapAsEnv" not in step.placed
        assert secrets(step) == {}
        return
    needed, more = step.placed["configMapAsEnv"]
    assert needed["configMapName"] == more["configMapName"] == names.CONFIG_MAP_PLACES
    assert (needed["optional"], more["optional"]) == (False, True)
    told = {one["envVar"] for one in needed["keyToEnv"]}
    assert told == {names.ENV_PLACE, names.ENV_STORE, names.ENV_TRACKING}
    wanted = {names.SECRET_STORE: True, names.SECRET_MLFLOW_LOGIN: True}
    if step.name in STATEFUL:
        wanted[names.SECRET_STATE] = False
    assert secrets(step) == wanted
    assert step.container.get("env", []) == []


def test_nothing_secret_is_a_parameter() -> None:
    for pipeline in STEPS:
        document = next(yaml.safe_load_all((COMPILED / pipeline).read_text()))
        known = document["root"]["inputDefinitions"]["parameters"]
        assert known.keys() <= {"spec", "run_key", "cause", "since", "until"}


def test_the_image_is_named_once_and_changed_in_one_go() -> None:
    image = "registry.example/team/component@sha256:" + "ab" * 32
    for pipeline in STEPS:
        text = (COMPILED / pipeline).read_text()
        changed = with_image(text, image)
        lines = [
            (was, now)
            for was, now in zip(text.splitlines(), changed.splitlines(), strict=True)
            if was != now
        ]
        assert len(lines) == STEPS[pipeline]
        assert all(now.strip() == f"image: {image}" for _, now in lines)
        assert problems(changed) == []
        assert version_name(changed) != version_name(text)


def misname_placement(broken: dict[str, Any]) -> str:
    executors = broken["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors["exec-nothing"] = executors.pop("exec-train-model")
    return "the platform's executor exec-nothing is not there"


def mistype_placement(broken: dict[str, Any]) -> str:
    executors = broken["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors["exec-train-model"]["secretAsEnvironment"] = []
    return "secretAsEnvironment"


@pytest.mark.parametrize("breakage", [misname_placement, mistype_placement])
def test_a_broken_placement_is_recognised(breakage: Any) -> None:
    document, platform = yaml.safe_load_all(TEXT)
    expected = breakage(platform)
    found = problems(yaml.safe_dump_all([document, platform]))
    assert any(expected in problem for problem in found)


def test_a_laptop_runs_the_same_steps_and_repeats_none() -> None:
    document, platform = yaml.safe_load_all(TEXT)
    once_only, platform_too = yaml.safe_load_all(once(TEXT))
    for task in tasks(document).values():
        task.pop("retryPolicy", None)
    assert (once_only, platform_too) == (document, platform)
    assert "retryPolicy" not in once(TEXT)


# The same as objects of Kubernetes


@pytest.mark.parametrize("pipeline", STEPS)
def test_the_manifests_hold_what_was_compiled_under_the_names_that_deploy_gives(
    pipeline: str,
) -> None:
    text = (COMPILED / pipeline).read_text()
    document, platform = yaml.safe_load_all(text)
    whole, version = yaml.safe_load_all((COMPILED / MANIFESTS / pipeline).read_text())
    assert whole["metadata"]["name"] == document["pipelineInfo"]["name"]
    assert version["metadata"]["name"] == version_name(text)
    assert version["spec"]["pipelineName"] == whole["metadata"]["name"]
    assert version["spec"]["pipelineSpec"] == document
    assert version["spec"]["platformSpec"] == platform


@pytest.mark.parametrize("pipeline", STEPS)
def test_the_manifests_fit_their_definitions(pipeline: str) -> None:
    folder = contract(CRDS)
    for manifest in yaml.safe_load_all((COMPILED / MANIFESTS / pipeline).read_text()):
        plural = manifest["kind"].lower() + "s"
        crd = yaml.safe_load((folder / f"pipelines.kubeflow.org_{plural}.yaml").read_text())
        assert manifest["apiVersion"] == f"{crd['spec']['group']}/v2beta1"
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        Draft202012Validator(strict(schema)).validate(manifest)


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Unknown fields are refused where the API server would drop them."""
    if schema.get("x-kubernetes-preserve-unknown-fields") or "properties" not in schema:
        return schema
    parts = {name: strict(one) for name, one in schema["properties"].items()}
    return {**schema, "properties": parts, "additionalProperties": False}


def test_every_condition_has_its_else() -> None:
    branches = [name for name in spec()["components"] if name.startswith("comp-condition-branches")]
    assert len(branches) == 2
    for name in branches:
        assert len(spec()["components"][name]["dag"]["tasks"]) == 2


def test_steps_install_nothing_at_run_time() -> None:
    commands = [
        " ".join(executor["container"]["command"])
        for executor in spec()["deploymentSpec"]["executors"].values()
    ]
    assert len(commands) == 11
    assert not any("pip install" in command for command in commands)
