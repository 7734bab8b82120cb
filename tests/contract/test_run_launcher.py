"""What starts runs keeps one promise on a laptop and on a cluster: one key, one run, one end."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from heliotrope.adapters.cluster.kfp import Kfp, KfpOptions
from heliotrope.adapters.cluster.run_log import RegistryRunLog
from heliotrope.adapters.embedded.run_detached import BEGAN
from heliotrope.adapters.embedded.runs import EmbeddedRuns
from heliotrope.adapters.mlflow_registry import MlflowRegistry
from heliotrope.domain.run_events import EventKind, RunEvent, RunOutcome
from heliotrope.errors import HeliotropeError
from heliotrope.ports.registry import Registry
from heliotrope.ports.runs import RunLauncher, RunState
from heliotrope.service.retraining_end import end_of
from heliotrope.service.retraining_facts import RetrainingTools
from heliotrope.vocabulary import Outcome
from tests.emulated.contracts import KFP, contract
from tests.emulated.kfp_api import FakeKfp, serve
from tests.emulated.swagger import Swagger

KEY = "loans-person-0123456789ab"
OTHER = "loans-drift-ba9876543210"
ROOT = Path(__file__).resolve().parents[2]
AT = datetime(2026, 3, 1, tzinfo=UTC)
PIPELINE = """
from kfp import compiler, dsl

@dsl.component(base_image="python:3.11", install_kfp_package=False)
def wait(folder: str, key: str):
    import time
    from datetime import datetime, timezone
    from pathlib import Path
    from heliotrope.adapters.embedded.run_log import FileRunLog
    from heliotrope.domain.run_events import EventKind, RunEvent, RunOutcome
    from heliotrope.vocabulary import Outcome
    at = datetime(2026, 3, 1, tzinfo=timezone.utc)
    log = FileRunLog(Path(folder) / "runs" / key)
    log.add(RunEvent(at=at, step="wait", kind=EventKind.STARTED))
    while not (Path(folder) / ("go-" + key)).exists():
        time.sleep(0.02)
    log.set_outcome(RunOutcome(
        model="loans", run_key=key, outcome=Outcome.REGISTERED, reason="done", version="2"))
    log.add(RunEvent(at=at, step="report_outcome", kind=EventKind.FINISHED))

@dsl.pipeline(name="waits")
def waits(folder: str, key: str):
    wait(folder=folder, key=key).set_caching_options(False)

compiler.Compiler().compile(waits, "waits.yaml")
"""


class Place(Protocol):
    """Where runs go on, and how a test moves them."""

    def open(self) -> RunLauncher:
        """A launcher, as each new process makes its own."""
        ...

    def arguments(self, key: str) -> dict[str, str]:
        """Of the pipeline that waits."""
        ...

    def begun(self, key: str) -> None:
        """Returns once the run's step said that it began."""
        ...

    def finish(self, key: str) -> None:
        """Let the run go to its end."""
        ...

    def kill(self, key: str) -> None:
        """The run ends without a word."""
        ...

    def started(self, key: str) -> int:
        """How many runs of this key there ever were."""
        ...

    def registry(self) -> Registry:
        """MLflow."""
        ...


def until(reached: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Laptop:
    """Runs are processes."""

    def __init__(self, home: Path, compiled: Path, mlflow: Path) -> None:
        self.home, self._compiled, self._mlflow = home, compiled, mlflow

    def open(self) -> RunLauncher:
        return EmbeddedRuns(self.home, self._compiled, {"PYTHONPATH": str(ROOT)})

    def arguments(self, key: str) -> dict[str, str]:
        return {"folder": str(self.home), "key": key}

    def begun(self, key: str) -> None:
        until(lambda: bool(self.open().log(key).events()))

    def finish(self, key: str) -> None:
        (self.home / f"go-{key}").touch()
        until(lambda: self.open().state(key) is not RunState.RUNNING)

    def kill(self, key: str) -> None:
        os.kill(int(self._began(key).read_text()), signal.SIGKILL)
        until(lambda: self.open().state(key) is not RunState.RUNNING)

    def started(self, key: str) -> int:
        return int(self._began(key).exists())

    def registry(self) -> Registry:
        return MlflowRegistry(f"sqlite:///{self._mlflow}")

    def _began(self, key: str) -> Path:
        return self.home / "runs" / key / BEGAN

    def close(self) -> None:
        for key in (KEY, OTHER):
            (self.home / f"go-{key}").touch()
        for began in self.home.glob(f"runs/*/{BEGAN}"):
            try:
                os.killpg(int(began.read_text()), signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                continue
        shutil.rmtree(self.home, ignore_errors=True)


class Cluster:
    """Runs are KFP's, and their steps write to MLflow."""

    def __init__(self, kfp: FakeKfp, compiled: Path, token: Path, mlflow: Path) -> None:
        many = {"namespace": "team-a", "token_file": token} if kfp.multi_user else {}
        self._options = KfpOptions(url=kfp.url, patience=60.0, **many)
        self._kfp, self._compiled, self._mlflow = kfp, compiled, mlflow
        self._opened = ExitStack()
        opened = self._make()
        opened.pipelines.upload((compiled / "waits.yaml").read_text())

    def _make(self) -> Kfp:
        kfp = Kfp(self._options, self._compiled, self.registry)
        self._opened.callback(kfp.close)
        return kfp

    def open(self) -> RunLauncher:
        return self._make().runs

    def arguments(self, key: str) -> dict[str, str]:
        return {"folder": "unused", "key": key}

    def begun(self, key: str) -> None:
        self.registry().start_run("loans", key, {})
        self._log(key).add(RunEvent(at=AT, step="wait", kind=EventKind.STARTED))
        self._kfp.move(key, "RUNNING")

    def finish(self, key: str) -> None:
        log = self._log(key)
        log.set_outcome(
            RunOutcome(
                model="loans", run_key=key, outcome=Outcome.REGISTERED, reason="done", version="2"
            )
        )
        log.add(RunEvent(at=AT, step="report_outcome", kind=EventKind.FINISHED))
        self._kfp.move(key, "SUCCEEDED")

    def kill(self, key: str) -> None:
        self._kfp.move(key, "FAILED")

    def started(self, key: str) -> int:
        return len(self._kfp.named(key))

    def registry(self) -> Registry:
        return MlflowRegistry(f"sqlite:///{self._mlflow}")

    def _log(self, key: str) -> RegistryRunLog:
        return RegistryRunLog(key, self.registry)

    def close(self) -> None:
        self._opened.close()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pipeline that waits for a file."""
    folder = tmp_path_factory.mktemp("checkout") / "pipelines" / "compiled"
    folder.mkdir(parents=True)
    (folder / "waits.py").write_text(PIPELINE)
    subprocess.run([sys.executable, "waits.py"], cwd=folder, check=True, timeout=240)
    return folder


@pytest.fixture(params=["embedded", "kfp", "kfp-multi-user"])
def place(
    request: pytest.FixtureRequest, compiled: Path, tmp_path: Path, mlflow_template: Path
) -> Iterator[Place]:
    mlflow = tmp_path / "mlflow.db"
    mlflow.write_bytes(mlflow_template.read_bytes())
    if request.param == "embedded":
        # Short: the name of a socket in it must stay below a hundred characters.
        here = Laptop(Path(tempfile.mkdtemp(prefix="h", dir="/tmp")), compiled, mlflow)
        yield here
        here.close()
        return
    token = tmp_path / "token"
    token.write_text("good-token")
    many = request.param == "kfp-multi-user"
    with serve(FakeKfp(Swagger(contract(KFP)), multi_user=many)) as running:
        there = Cluster(running, compiled, token, mlflow)
        yield there
        there.close()


def start(place: Place, key: str = KEY) -> RunLauncher:
    launcher = place.open()
    launcher.start("waits.yaml", place.arguments(key), key, python_path=ROOT)
    return launcher


def end(place: Place, launcher: RunLauncher, key: str = KEY) -> RunOutcome:
    """What the door to retraining makes of a run that is over."""
    tools = RetrainingTools(None, place.registry, launcher)  # type: ignore[arg-type]
    return end_of("loans", key, launcher.state(key), tools)


def test_a_run_that_was_never_started_is_absent_and_said_nothing(place: Place) -> None:
    launcher = place.open()
    assert launcher.state(KEY) is RunState.ABSENT
    assert launcher.log(KEY).events() == []
    assert launcher.log(KEY).outcome() is None
    assert launcher.log(KEY).kept("gate.json") is None


def test_a_run_goes_from_its_start_to_its_end_and_stays_ended(place: Place) -> None:
    launcher = start(place)
    assert launcher.state(KEY) is RunState.RUNNING
    place.begun(KEY)
    assert place.open().state(KEY) is RunState.RUNNING
    place.finish(KEY)
    for one in (launcher, place.open()):
        assert one.state(KEY) is RunState.ENDED
        outcome = one.log(KEY).outcome()
        assert outcome is not None
        assert (outcome.outcome, outcome.version) == (Outcome.REGISTERED, "2")
        steps = [event.step for event in one.log(KEY).events()]
        assert steps == ["wait", "report_outcome"]
    assert end(place, place.open()).version == "2"


def test_a_key_names_one_run_whoever_starts_it_and_whenever(place: Place) -> None:
    launcher = start(place)
    place.begun(KEY)
    launcher.start("waits.yaml", place.arguments(KEY), KEY, python_path=ROOT)
    start(place)
    assert place.started(KEY) == 1
    place.finish(KEY)
    start(place)
    assert place.open().state(KEY) is RunState.ENDED
    assert place.started(KEY) == 1
    assert len([e for e in place.open().log(KEY).events() if e.step == "wait"]) == 1


def test_a_run_that_ends_without_a_word_has_died_and_is_interrupted(place: Place) -> None:
    launcher = start(place)
    place.begun(KEY)
    place.kill(KEY)
    assert launcher.state(KEY) is RunState.DIED
    assert place.open().state(KEY) is RunState.DIED
    outcome = end(place, place.open())
    assert (outcome.outcome, outcome.step) == (Outcome.INTERRUPTED, "wait")
    start(place)
    assert place.started(KEY) == 1


def test_runs_of_two_causes_are_two(place: Place) -> None:
    launcher = start(place)
    start(place, OTHER)
    place.begun(KEY)
    place.begun(OTHER)
    place.finish(KEY)
    assert launcher.state(KEY) is RunState.ENDED
    assert launcher.state(OTHER) is RunState.RUNNING


def test_a_pipeline_that_is_not_there_is_said_so_and_leaves_nothing(place: Place) -> None:
    launcher = place.open()
    with pytest.raises(HeliotropeError, match="compiled pipeline must"):
        launcher.start("nothing.yaml", {}, KEY)
    assert launcher.state(KEY) is RunState.ABSENT
    assert place.started(KEY) == 0
