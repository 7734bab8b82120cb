"""The compiled pipelines are whole, and a broken one is recognised."""

from typing import Any

import pytest
import yaml

from pipelines.compile import COMPILED, PIPELINES, problems

TEXT = (COMPILED / "training.yaml").read_text()


def spec() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(TEXT)
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


def test_only_the_pure_gate_may_be_cached() -> None:
    cached = {
        name
        for name, task in tasks(spec()).items()
        if task.get("cachingOptions", {}).get("enableCache")
        and "executorLabel" in spec()["components"][task["componentRef"]["name"]]
    }
    assert cached == {"gate-model"}


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
