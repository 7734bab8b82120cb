"""A training whose steps each have an empty home, as pods have: MLflow is what they share.

The same outcome as on one disk, whatever becomes of the steps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from heliotrope import bootstrap
from heliotrope import vocabulary as names
from heliotrope.adapters.cluster.run_log import RegistryRunLog
from heliotrope.bootstrap import gate_candidate, report_training, training_step
from heliotrope.domain.run_events import EventKind, RunEvent, RunOutcome
from heliotrope.errors import HeliotropeError
from heliotrope.spec import load_spec
from heliotrope.spec.loading import dump_spec
from heliotrope.vocabulary import Outcome, Place

KEY = "toy-person-0123456789ab"
Workshop = Any


class Pods:
    """Runs steps one by one, each in a home that was never used before.

    Args:
        shop: of the test; its MLflow and store are what the steps share.
        folder: for homes and for what passes between steps.
        spec: YAML text.
    """

    def __init__(self, folder: Path, spec: str, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.spec, self._patch = folder, spec, patch
        self.homes: list[Path] = []
        names_of = ("snapshot", "quality", "model", "evaluation", "gate")
        self.at = SimpleNamespace(**{name: folder / "passed" / name for name in names_of})
        (folder / "passed").mkdir(parents=True)

    @contextmanager
    def pod(self) -> Iterator[None]:
        """A fresh home."""
        home = self.folder / f"pod-{len(self.homes)}"
        self.homes.append(home)
        self._patch.setenv(names.ENV_HOME, str(home))
        yield

    def step(self, name: str, work: Callable[[Any], Any]) -> Any:
        """One step; what it raises goes on."""
        with self.pod(), training_step(name, self.spec, KEY) as run:
            return work(run)

    def to_the_model(self) -> str:
        """The steps before a version is registered; answers the gate's word."""
        at, aside = self.at, self.folder / "passed"
        self.step("snapshot_data", lambda run: run.take_snapshot("person", at.snapshot))
        word = self.step(
            "validate_data",
            lambda run: run.validate_data(
                at.snapshot, at.quality, aside / "q.html", aside / "q.md"
            ),
        )
        if word != names.DATA_USABLE:
            return str(word)
        self.step("train_model", lambda run: run.train_model(at.snapshot, at.model))
        self.step(
            "evaluate_model",
            lambda run: run.evaluate_model(
                at.snapshot, at.model, at.evaluation, aside / "e.html", aside / "e.md"
            ),
        )
        with self.pod():
            return gate_candidate(self.spec, at.evaluation, at.gate, aside / "gate.md")

    def register(self) -> str:
        at = self.at
        return str(
            self.step(
                "register_model",
                lambda run: run.register_model(
                    "person", at.snapshot, at.quality, at.model, at.evaluation, at.gate
                ),
            )
        )

    def report(self, state: str, message: str = "task x failed") -> RunOutcome:
        """The exit handler; answers what whoever comes later reads."""
        page = self.folder / "outcome.md"
        with self.pod():
            report_training(self.spec, KEY, state, message, page)
        with self.pod():
            later = RegistryRunLog(KEY, lambda: bootstrap.platform().registry)
            outcome = later.outcome()
            assert later.reported()
        assert outcome is not None
        assert outcome.outcome.replace("_", " ") in page.read_text()
        return outcome


@pytest.fixture
def pods(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Pods]:
    """Opens a run over data, on a cluster as its steps see it."""

    shared = {
        names.ENV_PLACE: Place.CLUSTER,
        names.ENV_TRACKING: f"sqlite:///{workshop.home / 'mlflow.db'}",
        names.ENV_STORE: str(tmp_path / "shared-store"),
        names.ENV_STATE: f"sqlite:///{tmp_path / 'shared-state.db'}",
    }

    def make(frame: Any, more: str = "") -> Pods:
        spec = dump_spec(load_spec(workshop.write(frame, more)))
        for name, value in shared.items():
            monkeypatch.setenv(name, value)
        return Pods(tmp_path / "cluster", spec, monkeypatch)

    return make


def test_an_accepted_model_is_registered_and_said_so(
    workshop: Workshop, pods: Callable[..., Pods], capfd: pytest.CaptureFixture[str]
) -> None:
    run = pods(workshop.loans())
    assert run.to_the_model() == "PASS"
    version = run.register()
    outcome = run.report("SUCCEEDED")
    assert (outcome.outcome, outcome.version) == (Outcome.REGISTERED, version)
    assert outcome.alias == names.ALIAS_CHAMPION
    assert outcome.mlflow_run_id
    log = RegistryRunLog(KEY, lambda: bootstrap.platform().registry)
    events = log.events()
    ran = [event.step for event in events if event.kind is EventKind.FINISHED]
    assert ran == [
        "snapshot_data",
        "validate_data",
        "train_model",
        "evaluate_model",
        "register_model",
        "report_outcome",
    ]
    assert "rows as version" in events[1].text
    assert log.kept(names.KEPT_EVALUATION) == run.at.evaluation.read_text()
    said = capfd.readouterr().out
    assert all(f'"step":"{step}"' in said for step in ran)
    assert len(run.homes) == len(set(run.homes)) == 8


def test_a_repeated_registration_registers_once(
    workshop: Workshop, pods: Callable[..., Pods]
) -> None:
    run = pods(workshop.loans())
    run.to_the_model()
    # The pod did its work, and the node went away before anybody heard of it.
    assert run.register() == run.register()
    assert run.report("SUCCEEDED").outcome is Outcome.REGISTERED
    assert list(workshop.versions()) == ["1"]


def test_a_candidate_that_is_not_accepted_is_said_so(
    workshop: Workshop, pods: Callable[..., Pods]
) -> None:
    run = pods(workshop.loans(), "gates: {bounds: {roc_auc: 0.99}}\n")
    assert run.to_the_model() == "FAIL"
    run.step("refuse_candidate", lambda step: step.refuse_candidate(run.at.gate))
    outcome = run.report("SUCCEEDED")
    assert outcome.outcome is Outcome.NOT_ACCEPTED
    assert "0.99" in outcome.reason
    assert workshop.versions() == {}


def test_faulty_data_is_said_so_in_the_words_of_the_report(
    workshop: Workshop, pods: Callable[..., Pods]
) -> None:
    frame = workshop.loans()
    frame["age"] = 7
    run = pods(frame)
    assert run.to_the_model() == names.DATA_FAULTY
    with pytest.raises(HeliotropeError):
        run.step("refuse_data", lambda step: step.refuse_data(run.at.quality))
    outcome = run.report("FAILED")
    assert outcome.outcome is Outcome.DATA_FAULT
    assert "age" in outcome.reason


def fail(_: Any) -> None:
    raise HeliotropeError("the disk of this node is broken")


def test_a_step_that_failed_is_named_with_its_own_words(
    workshop: Workshop, pods: Callable[..., Pods]
) -> None:
    run = pods(workshop.loans())
    run.step("snapshot_data", lambda step: step.take_snapshot("person", run.at.snapshot))
    for _ in range(2):
        with pytest.raises(HeliotropeError):
            run.step("validate_data", fail)
    outcome = run.report("FAILED")
    assert (outcome.outcome, outcome.step) == (Outcome.FAILED, "validate_data")
    assert outcome.reason == "the disk of this node is broken"
    assert workshop.tags(outcome)["status"] == "FAILED"


def test_a_step_that_failed_before_it_opened_an_mlflow_run_is_said_so_too(
    workshop: Workshop, pods: Callable[..., Pods]
) -> None:
    run = pods(workshop.loans())
    with pytest.raises(HeliotropeError):
        run.step("snapshot_data", fail)
    outcome = run.report("FAILED")
    assert (outcome.outcome, outcome.step) == (Outcome.FAILED, "snapshot_data")
    assert outcome.reason == "the disk of this node is broken"


def test_a_step_that_failed_and_was_repeated_with_success_does_not_count(
    workshop: Workshop, pods: Callable[..., Pods]
) -> None:
    run = pods(workshop.loans())
    with pytest.raises(HeliotropeError):
        run.step("snapshot_data", fail)
    run.to_the_model()
    run.register()
    assert run.report("SUCCEEDED").outcome is Outcome.REGISTERED


def test_a_repeated_step_does_not_hide_one_that_died_later(
    workshop: Workshop, pods: Callable[..., Pods]
) -> None:
    run = pods(workshop.loans())
    with pytest.raises(HeliotropeError):
        run.step("snapshot_data", fail)
    run.step("snapshot_data", lambda step: step.take_snapshot("person", run.at.snapshot))
    # Out of memory: the kernel lets nobody say goodbye.
    with run.pod():
        log = bootstrap.platform().run_log(KEY)
        log.add(RunEvent(at=datetime.now(UTC), step="train_model", kind=EventKind.STARTED))
    outcome = run.report("FAILED")
    assert (outcome.outcome, outcome.step) == (Outcome.FAILED, "train_model")
    assert "died without a word" in outcome.reason
