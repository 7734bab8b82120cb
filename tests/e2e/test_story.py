"""The story on the running platform, as `heliotrope demo` tells it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heliotrope.adapters.embedded.supervisor.leftovers import marked
from heliotrope.vocabulary import ENV_HOME

DEMO = (sys.executable, "-m", "heliotrope", "demo")


def run(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Tell it in a folder of its own."""
    place = ("--folder", str(folder / "demo"), "--report", str(folder / "story.html"))
    return subprocess.run(
        [*DEMO, *options, *place],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )


def left(folder: Path) -> list[int]:
    """Processes that the story left running."""
    return marked({ENV_HOME: str(folder / "demo" / "home")})


@pytest.mark.timeout(1500)
def test_the_economy_turns_and_the_loop_closes_by_itself(tmp_path: Path) -> None:
    told = run(tmp_path, "--quick")
    assert told.returncode == 0, told.stdout + told.stderr
    said = told.stdout
    # In this order: noticed, understood, retrained, let in by evidence.
    # The controller's own alarm and Alertmanager's word of it both ask, and either may be first.
    steps = (
        "accuracy_fall is on",
        "concept shift:",
        r"(accuracy|alert): requested, worth it",
        "champion becomes",
    )
    found = [re.search(step, said) for step in steps]
    assert None not in found, said
    places = [one.start() for one in found if one is not None]
    assert places == sorted(places)
    assert "2 of 2 chapters went as they should" in said
    # A path is never broken, so that it can be copied.
    lines = [line for line in said.splitlines() if not line.startswith("In pictures: ")]
    assert max(map(len, lines)) <= 80
    page = (tmp_path / "story.html").read_text()
    assert "champion becomes version 2" in page
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_story_goes_as_it_should(tmp_path: Path) -> None:
    told = run(tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "6 of 6 chapters went as they should" in told.stdout
    assert left(tmp_path) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_a_story_that_is_broken_off_leaves_nothing_running(
    tmp_path: Path, asked: signal.Signals
) -> None:
    place = ("--folder", str(tmp_path / "demo"), "--report", str(tmp_path / "story.html"))
    with subprocess.Popen(
        [*DEMO, *place], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as telling:
        assert telling.stdout is not None
        # The first training has begun, and the platform is just starting.
        assert any("Training the first model" in line for line in telling.stdout)
        # Another one would pull its folder away from under it.
        second = run(tmp_path)
        assert second.returncode != 0
        assert f"where process {telling.pid} tells the story" in " ".join(second.stderr.split())
        telling.send_signal(asked)
        telling.send_signal(asked)
        rest = telling.stdout.read()
    assert telling.returncode == 130, rest
    assert left(tmp_path) == []


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "demo" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    told = run(tmp_path)
    assert told.returncode != 0
    assert "--folder must be empty" in told.stderr
    assert mine.read_text() == "years of work"


def test_a_page_that_could_not_be_written_is_said_before_the_story(tmp_path: Path) -> None:
    told = subprocess.run(
        [*DEMO, "--folder", "demo", "--report", "nowhere/story.html"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode != 0
    assert "--report must be in a folder that exists" in told.stderr
    assert not (tmp_path / "demo").exists()
