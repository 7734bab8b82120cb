"""Every overlay as a cluster would be sent it."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = ROOT / "manifests"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
BUILDS = ["base", *(f"overlays/{name}" for name in OVERLAYS)]
KUBECTL = Path(sys.executable).with_name("kubectl")

Thing = dict[str, Any]


@cache
def rendered(build: str) -> tuple[list[Thing], str]:
    """The objects of a build, and what kustomize said beside them."""
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(MANIFESTS / build)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one], done.stderr


class Build:
    """Objects of one build, and the questions that tests ask of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.things, self.said = rendered(name)

    def of(self, *kinds: str) -> list[Thing]:
        """Objects of these kinds."""
        return [one for one in self.things if one["kind"] in kinds]

    def named(self, kind: str, name: str) -> Thing:
        """The one object of this kind and name."""
        (found,) = [one for one in self.of(kind) if one["metadata"]["name"] == name]
        return found

    def pods(self) -> Iterator[tuple[str, dict[str, str], Thing]]:
        """(whose, labels, pod spec) of each pod template."""
        for one in self.of("Deployment", "StatefulSet", "DaemonSet", "Job"):
            template = one["spec"]["template"]
            yield (
                f"{one['kind']}/{one['metadata']['name']}",
                template["metadata"]["labels"],
                template["spec"],
            )

    def runtime(self) -> Thing:
        """What a predictor's pod is made of."""
        return self.named("ServingRuntime", "heliotrope-tabular")


@pytest.fixture(params=BUILDS)
def build(request: pytest.FixtureRequest) -> Build:
    """Each build in turn."""
    return Build(request.param)


@pytest.fixture(params=[f"overlays/{name}" for name in OVERLAYS])
def overlay(request: pytest.FixtureRequest) -> Build:
    """Each overlay in turn: what is applied."""
    return Build(request.param)
