"""`heliotrope up` with real processes: killed, started twice, loaded while traffic moves."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bench.standin import build_model, loan_rows
from heliotrope.adapters.embedded.serving import EmbeddedServing
from heliotrope.domain.serving_plan import ObservedServing, Revision, ServingPlan
from heliotrope.errors import UnavailableError
from heliotrope.service.shipping import STATE_FILE
from heliotrope.vocabulary import ENV_HOME, ENV_STORE, ENV_TRACKING, Role
from tests.fixtures.workshop import Ran

AT = datetime(2026, 3, 1, tzinfo=UTC)
PATIENCE = 90.0
BODY = json.dumps({"instances": loan_rows(1, seed=5)}).encode()
SPEC = """
name: loans
task: binary
label: {name: y, positive: 1, delay: 30d}
event_time: at
source: {path: none.csv}
features: [{name: age, type: integer}]
metrics: {primary: roc_auc}
"""
LIGHT = ("--without", "mlflow", "--without", "controller")


@dataclass
class Home:
    """A folder with a spec, two versions of a model, and a platform that may be up."""

    folder: Path
    environment: dict[str, str]
    serving: EmbeddedServing = field(init=False)

    def __post_init__(self) -> None:
        """The port of its home."""
        self.serving = EmbeddedServing(self.home)

    @property
    def home(self) -> Path:
        return self.folder / ".heliotrope"

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "heliotrope", *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> Ran:
        """A command, to its end."""
        child = self.start(*words)
        out, err = child.communicate(timeout=150)
        return Ran(child.returncode, out, err)

    def up(self) -> dict[str, Any]:
        """Be up, whatever was before, with one version; answers the state."""
        self.plan({"1": Role.CHAMPION}, v1=100)
        ran = self.run("up", "model.yaml", "--detach", *LIGHT)
        assert ran.code == 0, ran
        return self.state()

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "platform" / "state.json").read_bytes())
        return found

    def process(self, name: str) -> int:
        """Of a child."""
        return int(next(c["pid"] for c in self.state()["children"] if c["name"] == name))

    def plan(self, roles: dict[str, Role], **weights: int) -> None:
        revisions = tuple(Revision(version=v, role=role) for v, role in roles.items())
        split = {name.removeprefix("v"): weight for name, weight in weights.items()}
        self.serving.apply(
            ServingPlan(model="loans", revisions=revisions, weights=split, at=AT, reason="a test")
        )

    def settled(self) -> ObservedServing:
        wait_for(lambda: (seen := self.serving.observe("loans")) is not None and seen.settled)
        seen = self.serving.observe("loans")
        assert seen is not None
        return seen


def wait_for(check: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("platform")
    (folder / "model.yaml").write_text(SPEC)
    programs = folder / "bin"
    programs.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in (ENV_STORE, ENV_TRACKING)}
    # Neither Prometheus nor Alertmanager can be found there.
    environment |= {ENV_HOME: str(folder / ".heliotrope"), "PATH": str(programs)}
    home = Home(folder, environment)
    build_model(home.home / "served" / "loans" / "1", version=None)
    shutil.copytree(home.home / "served" / "loans" / "1", home.home / "served" / "loans" / "2")
    yield home
    assert home.run("down").code == 0


class Load:
    """Requests from several threads until it is stopped; counts what came back."""

    def __init__(self, gateway: str, threads: int = 4, pause: float = 0.02) -> None:
        self.codes: Counter[int] = Counter()
        self.versions: Counter[str] = Counter()
        self.ids: set[str] = set()
        self.refusals: list[str] = []
        """What came back beside 200, in words."""
        self._address = urlsplit(gateway).netloc
        self._pause, self._stopping, self._lock = pause, threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._send) for _ in range(threads)]

    def __enter__(self) -> "Load":
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, with every request answered."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self) -> None:
        link = http.client.HTTPConnection(self._address, timeout=90)
        while not self._stopping.wait(self._pause):
            kind = {"content-type": "application/json"}
            link.request("POST", "/v1/models/loans:predict", BODY, kind)
            answer = link.getresponse()
            body = answer.read()
            with self._lock:
                if answer.status != 200:
                    self.refusals.append(f"{answer.status}: {body[:300]!r}")
                self.codes[answer.status] += 1
                self.versions[answer.headers.get("x-model-version", "")] += 1
                self.ids.add(answer.headers.get("x-request-id", ""))
        link.close()

    def more(self, count: int = 50) -> None:
        """Wait for so many more answers."""
        goal = self.codes.total() + count
        wait_for(lambda: self.codes.total() >= goal)


def test_no_request_fails_while_traffic_moves_and_predictors_are_killed(place: Home) -> None:
    roles = {"1": Role.CHAMPION, "2": Role.CANARY}
    place.up()
    place.plan(roles, v1=100, v2=0)
    gateway = place.settled().gateway
    assert gateway is not None
    with Load(gateway) as load:
        load.more()
        for weight in (10, 50, 100, 0, 100):
            place.plan(roles, v1=100 - weight, v2=weight)
            place.settled()
            load.more(30)
        place.plan({"1": Role.CANARY, "2": Role.CHAMPION}, v2=100)
        place.settled()
        before = load.versions["1"]
        load.more()
        assert load.versions["1"] == before
        os.kill(place.process("loans/2"), signal.SIGKILL)
        load.more(20)
        place.settled()
        load.more(20)
        place.plan({"2": Role.CHAMPION}, v2=100)
        place.settled()
        load.more()
    assert load.refusals == []
    assert len(load.ids) == load.codes.total()


@contextmanager
def all_on_canary(place: Home, **load: Any) -> Iterator[tuple[Load, int, int]]:
    """Load on a canary that just got all traffic; its process, and answers of the old so far."""
    place.up()
    roles = {"1": Role.CHAMPION, "2": Role.CANARY}
    place.plan(roles, v1=100, v2=0)
    gateway = place.settled().gateway
    assert gateway is not None
    with Load(gateway, **load) as running:
        place.plan(roles, v1=0, v2=100)
        place.settled()
        running.more()
        yield running, place.process("loans/2"), running.versions["1"]
    assert running.refusals == []


def test_a_version_that_breaks_is_taken_back_without_a_failed_request(place: Home) -> None:
    with all_on_canary(place, threads=8, pause=0.0) as (load, process, before):
        os.kill(process, signal.SIGKILL)
        # The plan still wants it, and it is not up again yet: the one before stands in.
        wait_for(lambda: load.versions["1"] > before)
        place.plan({"1": Role.CHAMPION}, v1=100)
        place.settled()
        after = load.versions["2"]
        load.more()
        assert load.versions["2"] == after


def test_a_version_that_hangs_keeps_no_request_and_is_told(place: Home) -> None:
    def told() -> bool:
        seen = place.serving.observe("loans")
        there = seen.revision("2") if seen else None
        return there is not None and not there.ready and "silent" in there.message

    with all_on_canary(place, threads=4, pause=0.02) as (load, process, before):
        os.kill(process, signal.SIGSTOP)
        wait_for(told)
        load.more()
        assert load.versions["1"] > before
        os.kill(process, signal.SIGCONT)
        place.settled()


def test_a_supervisor_that_was_killed_knows_afterwards_who_may_stand_in(place: Home) -> None:
    with all_on_canary(place):
        pass
    os.kill(place.state()["pid"], signal.SIGKILL)
    wait_for(lambda: place.run("status").code == 3)
    assert place.run("up", "model.yaml", "--detach", *LIGHT).code == 0
    gateway = place.settled().gateway
    assert gateway is not None
    with Load(gateway) as load:
        load.more()
        assert set(load.versions) == {"2"}
        os.kill(place.process("loans/2"), signal.SIGKILL)
        wait_for(lambda: load.versions["1"] > 0)
    assert load.refusals == []


def test_every_child_that_is_killed_comes_back_and_answers(place: Home) -> None:
    place.up()
    names = {"gateway", "collector", "loans/1"}
    wait_for(lambda: {c["name"] for c in place.state()["children"]} == names)
    before = {child["name"]: child for child in place.state()["children"]}
    for child in before.values():
        os.kill(child["pid"], signal.SIGKILL)

    def is_back() -> bool:
        state = place.state()
        after = {child["name"]: child for child in state["children"]}
        return state["ready"] and all(
            after[name]["restarts"] > child["restarts"] and after[name]["pid"] != child["pid"]
            for name, child in before.items()
        )

    wait_for(is_back)
    gateway = place.settled().gateway
    assert gateway is not None
    with Load(gateway, threads=1, pause=0.0) as load:
        load.more(5)
    assert load.refusals == []
    assert place.state()["urls"]["gateway"] == gateway


def test_a_second_up_says_where_it_is_and_other_specs_are_refused(place: Home) -> None:
    state = place.up()
    again = place.run("up", "model.yaml")
    assert again.code == 0
    assert f"up already (process {state['pid']})" in again.out
    assert state["urls"]["gateway"] in again.out
    other = place.folder / "other.yaml"
    other.write_text(SPEC.replace("name: loans", "name: others"))
    refused = place.run("up", "other.yaml")
    assert refused.code == 7
    assert "heliotrope down" in refused.err
    assert place.state()["pid"] == state["pid"]


def test_what_a_killed_supervisor_left_is_ended_and_up_goes_on(place: Home) -> None:
    state = place.up()
    os.kill(state["pid"], signal.SIGKILL)
    wait_for(lambda: place.run("status").code == 3)
    with pytest.raises(UnavailableError, match="heliotrope up"):
        place.serving.observe("loans")
    after = place.up()
    assert after["pid"] != state["pid"]
    assert place.settled().weights == {"1": 100}
    left = {child["pid"] for child in state["children"]} & {c["pid"] for c in after["children"]}
    assert not left
    assert after["urls"]["gateway"] == state["urls"]["gateway"]


def test_down_ships_everything_that_was_answered_and_may_be_said_twice(place: Home) -> None:
    state = place.up()
    place.settled()
    with Load(state["urls"]["gateway"], threads=2, pause=0.0) as load:
        load.more(200)
    assert place.run("down").out == "The platform is down.\n"
    spool = place.home / "spool" / "loans" / "1"
    assert json.loads((spool / STATE_FILE).read_text())["sequence"] >= load.codes.total()
    again = place.run("down")
    assert (again.code, again.out) == (0, "The platform was not up.\n")
    for child in state["children"]:
        assert not Path(f"/proc/{child['pid']}").exists()


def test_status_and_logs_tell_what_runs_and_hold_no_token(place: Home) -> None:
    place.up()
    said = place.run("status", "--json")
    state = json.loads(said.out)
    assert state["up"]
    assert {"gateway", "collector"} <= set(state["urls"])
    assert any("Prometheus is not installed" in note for note in state["notes"])
    assert any("Alertmanager is not installed" in note for note in state["notes"])
    table = place.run("status")
    assert state["urls"]["gateway"] in table.out
    logs = place.run("logs", "collector", "-n", "5")
    assert "Collector at http://" in logs.out
    unknown = place.run("logs", "nobody")
    assert unknown.code == 3
    assert "collector" in unknown.err
    secret = (place.home / "collector.token").read_text().split()[0]
    assert (place.home / "collector.token").stat().st_mode & 0o077 == 0
    texts = [path for path in (place.home / "platform").rglob("*") if path.is_file()]
    assert not [path for path in texts if secret.encode() in path.read_bytes()]


def test_of_two_ups_at_once_one_wins_and_both_end_well(place: Home) -> None:
    place.plan({"1": Role.CHAMPION}, v1=100)
    place.run("down")
    both = [place.start("up", "model.yaml", "--detach", *LIGHT) for _ in range(2)]
    ended = [child.communicate(timeout=150) for child in both]
    assert [child.returncode for child in both] == [0, 0], ended
    pid = place.state()["pid"]
    supervisors = place.run("status", "--json")
    assert json.loads(supervisors.out)["pid"] == pid


def test_a_port_that_is_taken_and_a_bad_spec_are_refused(tmp_path: Path) -> None:
    home = Home(tmp_path, {**os.environ, ENV_HOME: str(tmp_path / ".heliotrope")})
    (tmp_path / "model.yaml").write_text(SPEC)
    (tmp_path / "bad.yaml").write_text(SPEC.replace("task: binary", "task: guess"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = home.run("up", "model.yaml", "--port", str(port))
    assert refused.code == 2
    assert f"Got {port}, which is taken" in refused.err
    bad = home.run("up", "bad.yaml")
    assert bad.code == 2
    assert "task must" in bad.err
    twice = home.run("up", "model.yaml", "model.yaml")
    assert twice.code == 2
    assert "another model" in twice.err
    without = home.run("up", "model.yaml", "--without", "gateway")
    assert without.code == 2
    assert not (tmp_path / ".heliotrope" / "platform" / "state.json").exists()
