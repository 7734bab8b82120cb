"""Runs that go on by themselves: started once, found again, and told dead from living."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heliotrope.adapters.embedded.run_detached import BEGAN
from heliotrope.adapters.embedded.runs import ALIVE, EmbeddedRuns
from heliotrope.adapters.embedded.supervisor.leftovers import marked
from heliotrope.errors import HeliotropeError
from heliotrope.ports.runs import RunState
from heliotrope.vocabulary import ENV_CHILD, ENV_PLATFORM

KEY = "loans-person-0123456789ab"
ROOT = Path(__file__).resolve().parents[2]
PIPELINE = """
from kfp import compiler, dsl

@dsl.component(base_image="python:3.11", install_kfp_package=False)
def wait(folder: str):
    import os, time
    from datetime import datetime, timezone
    from pathlib import Path
    from heliotrope.adapters.embedded.run_log import FileRunLog
    from heliotrope.domain.run_events import EventKind, RunEvent, RunOutcome
    from heliotrope.vocabulary import Outcome
    at = datetime(2026, 3, 1, tzinfo=timezone.utc)
    log = FileRunLog(Path(folder) / "runs" / "KEY")
    log.add(RunEvent(at=at, step="wait", kind=EventKind.STARTED, text=str(os.getpid())))
    while not (Path(folder) / "go").exists():
        time.sleep(0.02)
    log.set_outcome(RunOutcome(
        model="loans", run_key="KEY", outcome=Outcome.REGISTERED, reason="done", version="2"))
    log.add(RunEvent(at=at, step="report_outcome", kind=EventKind.FINISHED))

@dsl.pipeline(name="waits")
def waits(folder: str):
    wait(folder=folder).set_caching_options(False)

compiler.Compiler().compile(waits, "waits.yaml")
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline that waits for a file."""
    folder = tmp_path_factory.mktemp("checkout") / "pipelines" / "compiled"
    folder.mkdir(parents=True)
    (folder / "waits.py").write_text(PIPELINE.replace("KEY", KEY))
    subprocess.run([sys.executable, "waits.py"], cwd=folder, check=True, timeout=120)
    return folder


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder whose runs are ended with the test."""
    # Short: the name of a socket in it must stay below a hundred characters.
    made = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))
    yield made
    (made / "go").touch()
    for began in made.glob(f"runs/*/{BEGAN}"):
        try:
            os.killpg(int(began.read_text()), signal.SIGKILL)
        except (ProcessLookupError, ValueError):
            continue
    shutil.rmtree(made, ignore_errors=True)


def runs_of(home: Path, compiled: Path) -> EmbeddedRuns:
    """A launcher, as each new process makes its own."""
    return EmbeddedRuns(home, compiled, {"PYTHONPATH": str(ROOT)})


def begin(home: Path, compiled: Path) -> EmbeddedRuns:
    """A run that is in its step."""
    runs = runs_of(home, compiled)
    runs.start("waits.yaml", {"folder": str(home)}, KEY, python_path=ROOT)
    until(lambda: bool(runs.log(KEY).events()), runs)
    return runs


def until(reached: Callable[[], bool], runs: EmbeddedRuns) -> None:
    """Wait for a condition; the run's own output says why it never came."""
    deadline = time.monotonic() + 60
    while not reached():
        output = runs.log(KEY).folder / "log.txt"
        said = output.read_text() if output.exists() else ""
        assert time.monotonic() < deadline, said
        time.sleep(0.02)


_STARTER = """
import sys, time
from pathlib import Path
from heliotrope.adapters.embedded.runs import EmbeddedRuns
home, compiled, key, root = sys.argv[1:]
runs = EmbeddedRuns(Path(home), Path(compiled), {"PYTHONPATH": root})
runs.start("waits.yaml", {"folder": home}, key, python_path=Path(root))
print("started", flush=True)
time.sleep(600)
"""


def test_a_run_is_no_leftover_of_the_controller_that_started_it(
    home: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_CHILD, f"{home} controller")
    monkeypatch.setenv(ENV_PLATFORM, str(home))
    begin(home, compiled)
    # The run, its warm process and its step go when the platform goes, and not before.
    assert marked({ENV_CHILD: f"{home} controller"}) == []
    assert len(marked({ENV_PLATFORM: str(home)})) >= 3


def lives(pid: int) -> bool:
    """Whether a process is there that may still do something.

    One that is ending has given its memory back, its command line with it, some time before the
    system calls it a zombie; neither runs any more.
    """
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def test_a_run_is_started_once_and_goes_on_when_its_starter_is_killed(
    home: Path, compiled: Path
) -> None:
    command = [sys.executable, "-c", _STARTER, str(home), str(compiled), KEY, str(ROOT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "started\n"
        starter.kill()
    runs = runs_of(home, compiled)
    assert runs.state(KEY) is RunState.RUNNING
    until(lambda: bool(runs.log(KEY).events()), runs)
    first = (runs.log(KEY).folder / BEGAN).read_text()
    runs.start("waits.yaml", {"folder": "elsewhere"}, KEY)
    assert runs.state(KEY) is RunState.RUNNING
    (home / "go").touch()
    until(lambda: runs.state(KEY) is not RunState.RUNNING, runs)
    for again in (runs, runs_of(home, compiled)):
        again.start("waits.yaml", {"folder": str(home)}, KEY)
        assert again.state(KEY) is RunState.ENDED
    outcome = runs.log(KEY).outcome()
    assert outcome is not None
    assert outcome.version == "2"
    assert (runs.log(KEY).folder / BEGAN).read_text() == first
    assert len([e for e in runs.log(KEY).events() if e.step == "wait"]) == 1


def test_a_run_that_is_killed_has_died_and_its_step_is_stopped(home: Path, compiled: Path) -> None:
    runs = begin(home, compiled)
    step = int(runs.log(KEY).events()[0].text)
    os.kill(int((runs.log(KEY).folder / BEGAN).read_text()), signal.SIGKILL)
    until(lambda: runs.state(KEY) is RunState.DIED, runs)
    assert not lives(step)
    assert runs.log(KEY).outcome() is None
    runs_of(home, compiled).start("waits.yaml", {"folder": str(home)}, KEY)
    assert runs_of(home, compiled).state(KEY) is RunState.DIED


def test_a_starter_that_died_before_the_run_began_leaves_it_to_the_next(
    home: Path, compiled: Path
) -> None:
    runs = runs_of(home, compiled)
    folder = runs.log(KEY).folder
    folder.mkdir(parents=True)
    (folder / ALIVE).touch()
    (folder / "arguments.json").write_text("{")
    assert runs.state(KEY) is RunState.ABSENT
    runs.start("waits.yaml", {"folder": str(home)}, KEY, python_path=ROOT)
    assert runs.state(KEY) is RunState.RUNNING


def test_a_pipeline_that_is_not_there_is_said_so_and_leaves_nothing(home: Path) -> None:
    runs = runs_of(home, home / "nowhere")
    with pytest.raises(HeliotropeError, match="run `make generate`"):
        runs.start("waits.yaml", {}, KEY)
    assert runs.state(KEY) is RunState.ABSENT
