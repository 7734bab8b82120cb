"""What every place that serves must do with a plan: the embedded supervisor, KServe's two modes.

A `Place` gives the tests a serving port and versions to run; the tests only speak the port and
ask the addresses that it answers with.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import pytest

from bench.standin import build_model, loan_rows
from heliotrope.adapters.embedded.serving import EmbeddedServing
from heliotrope.adapters.inference_service import ServingMode
from heliotrope.domain.serving_plan import ObservedServing, Revision, ServingPlan
from heliotrope.ports.serving import Serving
from heliotrope.vocabulary import ENV_HOME, ENV_STORE, ENV_TRACKING, ONNX_FILE, Role
from tests.emulated.kserve_place import kserve_place

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


@dataclass
class Place:
    """Where the port is tried."""

    serving: Serving
    offer: Callable[[str, str], None]
    """Make a version of a model available."""
    spoil: Callable[[str, str], None]
    """Make one available that cannot be run."""
    moves: bool = False
    """Whether a version's own address changes when it takes over."""

    def apply(self, model: str, roles: dict[str, Role], **weights: int) -> None:
        """Give a plan; weights by `v<version>`."""
        revisions = tuple(Revision(version=v, role=role) for v, role in roles.items())
        split = {name.removeprefix("v"): weight for name, weight in weights.items()}
        self.serving.apply(
            ServingPlan(model=model, revisions=revisions, weights=split, at=AT, reason="a test")
        )

    def until(self, model: str, check: Callable[[ObservedServing], bool]) -> ObservedServing:
        """Observe until something is so."""
        end = time.monotonic() + PATIENCE
        seen = self.serving.observe(model)
        while seen is None or not check(seen):
            assert time.monotonic() < end, seen
            time.sleep(0.05)
            seen = self.serving.observe(model)
        return seen

    def settled(self, model: str) -> ObservedServing:
        """Observe until the plan is carried out."""
        return self.until(model, lambda seen: seen.settled)


def ask(url: str | None, model: str, count: int) -> Counter[str]:
    """How many answers came from each version; every one must be a 200."""
    assert url is not None
    versions: Counter[str] = Counter()
    link = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    for _ in range(count):
        link.request(
            "POST", f"/v1/models/{model}:predict", BODY, {"content-type": "application/json"}
        )
        answer = link.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        versions[answer.headers["x-model-version"]] += 1
    link.close()
    return versions


@contextmanager
def users(url: str | None, model: str) -> Iterator[None]:
    """Requests one after another while versions come and go; every one must be answered well."""
    ended, failed, counts = Event(), [], []

    def go() -> None:
        while not ended.wait(0.01):
            try:
                counts.append(sum(ask(url, model, 1).values()))
            except (AssertionError, OSError, http.client.HTTPException) as error:
                failed.append(repr(error))

    thread = Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert failed == []
    assert len(counts) > 10


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("standin") / "model"
    build_model(folder, version=None)
    return folder


@pytest.fixture(scope="module")
def embedded(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("home")
    home = folder / ".heliotrope"
    (folder / "model.yaml").write_text(SPEC)

    def offer(model: str, version: str) -> None:
        shutil.copytree(model_folder, home / "served" / model / version)

    def spoil(model: str, version: str) -> None:
        offer(model, version)
        (home / "served" / model / version / ONNX_FILE).write_bytes(b"no model")

    offer("loans", "1")
    place = Place(EmbeddedServing(home), offer, spoil)
    place.apply("loans", {"1": Role.CHAMPION}, v1=100)
    command = [sys.executable, "-m", "heliotrope", "up", "model.yaml"]
    for name in ("collector", "controller", "mlflow", "prometheus", "alertmanager"):
        command += ["--without", name]
    environment = {k: v for k, v in os.environ.items() if k not in (ENV_STORE, ENV_TRACKING)}
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**environment, ENV_HOME: str(home)}
        )
    try:
        end = time.monotonic() + PATIENCE
        while not (home / "platform" / "state.json").exists():
            assert process.poll() is None, (folder / "up.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield place
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@contextmanager
def on_kserve(mode: ServingMode, model_folder: Path, folder: Path) -> Iterator[Place]:
    with kserve_place(mode, model_folder, folder) as here:
        here.offer("loans", "1")
        place = Place(here.serving, here.offer, here.spoil, moves=mode is ServingMode.KNATIVE)
        place.apply("loans", {"1": Role.CHAMPION}, v1=100)
        yield place


@pytest.fixture(scope="module")
def kserve_standard(
    model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("standard")
    with on_kserve(ServingMode.STANDARD, model_folder, folder) as place:
        yield place


@pytest.fixture(scope="module")
def kserve_knative(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("knative")
    with on_kserve(ServingMode.KNATIVE, model_folder, folder) as place:
        yield place


@pytest.fixture(params=["embedded", "kserve_standard", "kserve_knative"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def test_a_model_that_was_never_served_is_not_observed(place: Place) -> None:
    assert place.serving.observe("unheard") is None
    assert place.serving.plan("unheard") is None


def test_a_plan_can_be_read_back_and_given_again(place: Place) -> None:
    place.settled("loans")
    plan = place.serving.plan("loans")
    assert plan is not None
    place.serving.apply(plan)
    assert place.serving.plan("loans") == plan
    seen = place.settled("loans")
    one = seen.revision("1")
    assert one is not None
    assert (one.ready, one.role, one.restarts, one.message) == (True, Role.CHAMPION, 0, "")
    assert seen.weights == {"1": 100}
    assert ask(seen.gateway, "loans", 5) == {"1": 5}


def test_a_candidate_comes_takes_over_and_the_old_one_goes(place: Place) -> None:
    model = "story"
    place.offer(model, "1")
    place.offer(model, "2")
    place.apply(model, {"1": Role.CHAMPION}, v1=100)
    first = place.settled(model)
    assert ask(first.gateway, model, 5) == {"1": 5}

    with users(first.gateway, model):
        the_whole_way(place, model)


def the_whole_way(place: Place, model: str) -> None:
    place.apply(model, {"1": Role.CHAMPION, "2": Role.SHADOW}, v1=100, v2=0)
    before = place.serving.observe(model)
    assert before is not None
    assert not before.settled, "a plan that nobody has looked at is not carried out"
    shadowed = place.settled(model)
    candidate = shadowed.revision("2")
    assert candidate is not None
    assert candidate.role is Role.SHADOW
    assert ask(shadowed.gateway, model, 20) == {"1": 20}
    assert ask(candidate.address, model, 3) == {"2": 3}

    canary = {"1": Role.CHAMPION, "2": Role.CANARY}
    for weight in (10, 25, 50, 100):
        place.apply(model, canary, v1=100 - weight, v2=weight)
        seen = place.settled(model)
        assert {v: w for v, w in seen.weights.items() if w} == {
            v: w for v, w in {"1": 100 - weight, "2": weight}.items() if w
        }
        versions = ask(seen.gateway, model, 200)
        share = versions["2"] / 200
        # Six standard deviations of 200 draws.
        assert abs(share - weight / 100) <= 6 * (weight * (100 - weight) / 1e4 / 200) ** 0.5

    place.apply(model, {"1": Role.CANARY, "2": Role.CHAMPION}, v2=100)
    promoted = place.settled(model).revision("2")
    assert promoted is not None
    assert promoted.role is Role.CHAMPION
    assert promoted.restarts == 0
    assert place.moves or promoted.address == candidate.address
    assert ask(promoted.address, model, 3) == {"2": 3}
    # The one before stays awake, to take over again at once.
    former = place.settled(model).revision("1")
    assert former is not None
    assert ask(former.address, model, 3) == {"1": 3}

    place.apply(model, {"2": Role.CHAMPION}, v2=100)
    alone = place.settled(model)
    assert [one.version for one in alone.revisions] == ["2"]
    assert ask(alone.gateway, model, 5) == {"2": 5}


def test_a_candidate_that_cannot_run_says_why_gets_nothing_and_can_be_taken_back(
    place: Place,
) -> None:
    model = "broken"
    place.offer(model, "1")
    place.spoil(model, "2")
    place.apply(model, {"1": Role.CHAMPION}, v1=100)
    place.settled(model)
    place.apply(model, {"1": Role.CHAMPION, "2": Role.CANARY}, v1=50, v2=50)

    def has_failed(seen: ObservedServing) -> bool:
        one = seen.revision("2")
        return one is not None and one.restarts > 0 and "must" in one.message

    seen = place.until(model, has_failed)
    candidate = seen.revision("2")
    assert candidate is not None
    assert not candidate.ready
    assert not seen.settled
    assert seen.weights == {"1": 100}
    assert ask(seen.gateway, model, 10) == {"1": 10}

    place.apply(model, {"1": Role.CHAMPION}, v1=100)
    back = place.settled(model)
    assert [one.version for one in back.revisions] == ["1"]
    assert ask(back.gateway, model, 5) == {"1": 5}
