"""The door to retraining with the real state store: one run whatever asks, killed wherever."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from heliotrope.adapters.embedded.run_log import FileRunLog
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.domain.alarms import Alarm, AlarmStatus
from heliotrope.domain.decisions import DecisionEntry, DecisionKind, first_broken
from heliotrope.domain.evaluation import Evaluation, MetricValue
from heliotrope.domain.remedy.documents import Remedy
from heliotrope.domain.rollout.documents import Rollout
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.domain.run_events import EventKind, RunEvent, RunOutcome
from heliotrope.domain.triggers import Cause, CauseKind, Trigger, TriggerState
from heliotrope.domain.truth.documents import Maturity, WindowTruth
from heliotrope.errors import HeliotropeError, NotFoundError, UnavailableError
from heliotrope.ports.registry import RegisteredVersion
from heliotrope.ports.runs import RunState
from heliotrope.ports.state import Put, StateKind
from heliotrope.service.accepted import read_accepted
from heliotrope.service.recurring import ask_by_schedule
from heliotrope.service.retraining import RetrainingDoor
from heliotrope.service.retraining_duty import RetrainingDuty
from heliotrope.service.retraining_facts import RetrainingTools
from heliotrope.service.run_outcome import REPORT
from heliotrope.service.waiting_door import WaitingDoor
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board
from heliotrope.vocabulary import (
    ALIAS_CANDIDATE,
    ALIAS_CHAMPION,
    ARTIFACT_EVALUATION_FILE,
    Outcome,
)

T0 = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPEC = """
name: loans
task: binary
label: {name: y, positive: 1}
source: {path: loans.csv}
metrics: {primary: accuracy}
features: [{name: x, type: float}]
retraining: {schedule: "0 6 * * *", minimum_new_labels: 100, daily_budget: 2, max_failures: 2}
"""


class Killed(BaseException):
    """The process is gone; nothing of ours catches it."""


@dataclass
class Registry:
    """Versions, aliases and run files, kept in memory; what the door reads of MLflow."""

    aliases: dict[str, str] = field(default_factory=dict)
    files: dict[tuple[str, str], str] = field(default_factory=dict)
    discarded: int = 0
    away: bool = False

    def by_alias(self, model: str, alias: str) -> RegisteredVersion | None:
        self._require()
        version = self.aliases.get(alias)
        return None if version is None else _version(model, version)

    def versions(self, model: str) -> list[RegisteredVersion]:
        self._require()
        return [_version(model, version) for version in sorted(set(self.aliases.values()))]

    def read_text(self, run_id: str, path: str) -> str:
        self._require()
        try:
            return self.files[run_id, path]
        except KeyError:
            raise NotFoundError(f"{path} must be there.") from None

    def discard_incomplete(self, model: str) -> list[str]:
        self._require()
        self.discarded += 1
        return []

    def find_run(self, run_key: str) -> str | None:
        self._require()
        return None

    def _require(self) -> None:
        if self.away:
            raise UnavailableError("MLflow must answer.")


def _version(model: str, version: str) -> RegisteredVersion:
    return RegisteredVersion(model, version, f"run-{version}", T0, (), {}, {}, True)


@dataclass
class Launchpad:
    """Runs that go on by themselves, in memory: a test says when and how each ends."""

    folder: Path
    started: list[str] = field(default_factory=list)
    arguments: dict[str, Mapping[str, str]] = field(default_factory=dict)
    states: dict[str, RunState] = field(default_factory=dict)
    broken: bool = False

    def start(
        self,
        pipeline: str,
        arguments: Mapping[str, str],
        run_key: str,
        *,
        python_path: Path | None = None,
    ) -> None:
        if self.broken:
            raise HeliotropeError("The run's folder must be writable.")
        if run_key not in self.states:
            self.started.append(run_key)
            self.arguments[run_key] = arguments
            self.states[run_key] = RunState.RUNNING

    def state(self, run_key: str) -> RunState:
        return self.states.get(run_key, RunState.ABSENT)

    def log(self, run_key: str) -> FileRunLog:
        return FileRunLog(self.folder / run_key)

    def end(self, outcome: Outcome, version: str | None = None) -> None:
        key, log = self.started[-1], self.log(self.started[-1])
        log.add(RunEvent(at=T0, step=REPORT, kind=EventKind.FINISHED))
        log.set_outcome(
            RunOutcome(
                model="loans", run_key=key, outcome=outcome, reason="gate says", version=version
            )
        )
        self.states[key] = RunState.ENDED

    def die(self) -> None:
        key = self.started[-1]
        self.log(key).add(RunEvent(at=T0, step="train_model", kind=EventKind.STARTED))
        self.states[key] = RunState.DIED


@dataclass
class World:
    """A model, its truth, and a controller that may be killed and started again."""

    url: str
    launchpad: Launchpad
    registry: Registry
    spec: ModelSpec
    now: datetime = T0
    accuracy: float = 0.72
    truth: list[WindowTruth] = field(default_factory=list)
    board: Board = field(default_factory=lambda: Board(metrics.CONTROLLER_METRICS))

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.state = SqlStateStore(self.url)
        self.duty = RetrainingDuty(self.spec, self.tools(), self.board)
        self.door = self.duty.door

    def tools(self) -> RetrainingTools:
        return RetrainingTools(
            self.state, lambda: self.registry, self.launchpad, lambda _: self.truth
        )

    def tick(self, after: timedelta = timedelta(0)) -> None:
        self.now += after
        self.duty.run(self.now)

    def triggers(self) -> list[Trigger]:
        return [trigger for _, trigger in RetrainingDoor(self.spec, self.tools()).facts.triggers()]

    def trigger(self, kind: CauseKind) -> Trigger:
        (found,) = [one for one in self.triggers() if one.cause.kind is kind]
        return found

    def log(self, kind: DecisionKind) -> list[str]:
        return [one.reason for one in self.state.decisions("loans", kinds=[kind])]

    def register(self, version: str) -> None:
        self.launchpad.end(Outcome.REGISTERED, version)
        self.registry.aliases[ALIAS_CANDIDATE] = version

    def promote(self, version: str) -> None:
        self.registry.aliases = {ALIAS_CHAMPION: version}

    def window(self, accuracy: float, labels: int = 1_000, version: str = "1") -> None:
        start = self.now - 2 * HOUR
        half = 2 * (accuracy * (1 - accuracy) / labels) ** 0.5
        value = MetricValue(value=accuracy, low=accuracy - half, high=accuracy + half)
        self.truth.append(
            WindowTruth(
                model="loans",
                version=version,
                role="champion",
                slice=None,
                window_from=start,
                window_to=start + HOUR,
                predicted=labels,
                labelled=labels,
                unjudged=0,
                coverage=1.0,
                correct=int(labels * accuracy),
                class_counts={},
                primary="accuracy",
                metrics={"accuracy": value},
                binning_error=0.0,
                delay=None,
                maturity=Maturity.BY_DELAY,
                estimate={},
            )
        )


def cause(kind: CauseKind = CauseKind.ACCURACY, key: str = "fell at 3", **more: Any) -> Cause:
    return Cause(
        **({"kind": kind, "key": key, "model": "loans", "text": "it fell", "asked_at": T0} | more)
    )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A champion that was accepted at .94 and is at .72 now."""
    registry = Registry({ALIAS_CHAMPION: "1"})
    accepted = MetricValue(value=0.94, low=0.92, high=0.95)
    evaluation = Evaluation(primary="accuracy", rows=900, metrics={"accuracy": accepted})
    registry.files["run-1", ARTIFACT_EVALUATION_FILE] = evaluation.to_json()
    made = World(
        f"sqlite:///{tmp_path}/state.db",
        Launchpad(tmp_path / "runs"),
        registry,
        parse_spec(SPEC, "loans"),
    )
    made.window(0.72)
    made.tick()
    yield made
    made.state.close()


def test_a_cause_starts_one_run_and_its_end_is_written_down(world: World) -> None:
    trigger = world.door.ask(cause(since=T0 - 3 * HOUR), world.now)
    assert trigger.state is TriggerState.RUNNING
    (key,) = world.launchpad.started
    arguments = world.launchpad.arguments[key]
    assert (arguments["run_key"], arguments["cause"]) == (key, "accuracy: it fell")
    assert datetime.fromisoformat(arguments["since"]) == T0 - 3 * HOUR
    world.tick(HOUR)
    assert world.trigger(CauseKind.ACCURACY).state is TriggerState.RUNNING
    world.register("2")
    world.tick(HOUR)
    ended = world.trigger(CauseKind.ACCURACY)
    assert (ended.state, ended.outcome, ended.version) == ("ended", "registered", "2")
    assert ended.ended_at == world.now
    assert world.log(DecisionKind.RUN) == ["registered: gate says"]
    (why,) = world.log(DecisionKind.TRIGGER)
    assert "accuracy 0.720 [0.692, 0.748] over 1,000 labels, first accepted at 0.940" in why
    assert first_broken(world.state.decisions("loans")) is None


def test_a_thousand_duplicate_and_flapping_causes_with_restarts_start_exactly_one_run(
    world: World,
) -> None:
    kinds = (CauseKind.ACCURACY, CauseKind.DRIFT, CauseKind.ALERT)
    for number in range(1_000):
        if number % 100 == 50:
            world.restart()
        if number == 300:
            world.launchpad.end(Outcome.REGISTERED, "2")
            world.registry.aliases[ALIAS_CANDIDATE] = "2"
        if number == 700:
            world.promote("2")
        # A third told again word for word, a third of a new key, a third of a new moment too.
        key = "same" if number % 3 == 0 else f"flap {number}"
        asked = world.now if number % 3 == 2 else T0
        about = "1" if number < 700 or number % 2 else None
        told = cause(
            kinds[number % 7 % 3],
            key,
            asked_at=asked,
            harm=True,
            champion=about,
            remedy=Remedy.RETRAIN,
        )
        if number < 700 or about is not None:
            world.door.ask(told, world.now)
        if number % 40 == 0:
            world.tick(timedelta(minutes=1))
    world.tick(timedelta(days=3) - HOUR)
    scheduled = [key for key in world.launchpad.started if "schedule" in key]
    assert len(world.launchpad.started) - len(scheduled) == 1
    log = world.state.decisions("loans")
    assert first_broken(log) is None
    assert len(log) < 1_000


@pytest.mark.parametrize("remedy", [Remedy.FIX_DATA, Remedy.CHECK_LABELS])
def test_a_fault_never_starts_a_run_even_where_the_same_kind_waited(
    world: World, remedy: Remedy
) -> None:
    world.truth.clear()
    assert world.door.ask(cause(CauseKind.DRIFT, "w1"), world.now).state is TriggerState.WAITING
    refused = world.door.ask(cause(CauseKind.DRIFT, "w2", remedy=remedy), world.now)
    assert (refused.state, refused.rule) == (TriggerState.REFUSED, "remedy")
    world.window(0.72)
    world.tick(HOUR)
    assert world.launchpad.started == []


def test_a_fault_that_is_mended_lets_the_same_alarm_ask_again(world: World) -> None:
    refused = world.door.ask(cause(remedy=Remedy.FIX_DATA), world.now)
    assert refused.state is TriggerState.REFUSED
    assert world.door.ask(cause(remedy=Remedy.FIX_DATA), world.now) == refused
    assert world.door.ask(cause(), world.now) == refused
    started = world.door.ask(cause(remedy=Remedy.RETRAIN), world.now + HOUR)
    assert started.state is TriggerState.RUNNING
    assert len(world.launchpad.started) == 1


def test_what_was_asked_of_the_old_champion_starts_nothing_for_the_new_one(world: World) -> None:
    world.truth.clear()
    old = cause(key="firing of 1", champion="1")
    assert world.door.ask(old, world.now).state is TriggerState.WAITING
    world.promote("2")
    # The alarm is still on, and who diagnoses it reads the new champion.
    again = cause(key="firing of 1", champion="2", remedy=Remedy.RETRAIN)
    new = cause(key="firing of 2", champion="2", remedy=Remedy.RETRAIN)
    waiting = world.door.ask(new, world.now)
    refused = world.door.ask(again, world.now)
    assert (refused.state, refused.rule) == (TriggerState.REFUSED, "answered")
    assert "about version 1; version 2 is champion now" in refused.reason
    # The new one's own fall is a cause of its own, and not taken for the old one's.
    assert (waiting.cause.key, waiting.state) == ("firing of 2", TriggerState.WAITING)
    world.tick(HOUR)
    assert world.launchpad.started == []


def test_an_alert_waits_for_a_diagnosis_and_for_one_that_says_retrain(world: World) -> None:
    _alarm(world, AlarmStatus.FIRING, 0)
    world.tick(HOUR)
    assert world.trigger(CauseKind.ALERT).rule == "diagnosis"
    _diagnosis(world, Remedy.FIX_DATA)
    world.tick(HOUR)
    assert world.launchpad.started == []
    assert "fix_data" in world.trigger(CauseKind.ALERT).reason
    _diagnosis(world, Remedy.RETRAIN)
    world.tick(HOUR)
    assert len(world.launchpad.started) == 1


def _diagnosis(world: World, remedy: Remedy, version: str = "1") -> None:
    entry = DecisionEntry(
        model="loans",
        at=world.now,
        kind=DecisionKind.DIAGNOSIS,
        actor="controller",
        subject="alarm",
        reason="said",
        evidence={"remedy": remedy.value, "version": version},
    )
    world.state.apply(world.now, decisions=[entry])


def test_what_waits_starts_when_what_it_waited_for_is_there(world: World) -> None:
    world.truth.clear()
    world.window(0.72, labels=60)
    waiting = world.door.ask(cause(), world.now)
    assert (waiting.state, waiting.rule) == (TriggerState.WAITING, "minimum_new_labels")
    assert "40 more" in waiting.reason
    world.tick(HOUR)
    assert world.launchpad.started == []
    world.window(0.7, labels=40)
    world.restart()
    world.tick(HOUR)
    assert world.launchpad.started == [waiting.cause.run_key]
    assert len(world.log(DecisionKind.TRIGGER)) == 2


def test_an_alert_that_is_over_is_let_go_and_asks_again_when_it_comes_back(world: World) -> None:
    world.truth.clear()
    _alarm(world, AlarmStatus.FIRING, 0)
    world.tick(HOUR)
    assert world.trigger(CauseKind.ALERT).state is TriggerState.WAITING
    _alarm(world, AlarmStatus.RESOLVED, 1)
    world.tick(HOUR)
    assert world.trigger(CauseKind.ALERT).state is TriggerState.WITHDRAWN
    world.window(0.72)
    world.tick(HOUR)
    assert world.launchpad.started == []
    _alarm(world, AlarmStatus.FIRING, 2)
    _diagnosis(world, Remedy.RETRAIN)
    world.tick(HOUR)
    assert world.launchpad.started == [world.trigger(CauseKind.ALERT).cause.run_key]


def _alarm(world: World, status: AlarmStatus, revision: int) -> None:
    alarm = Alarm(
        name="HeliotropeAccuracyFell",
        model="loans",
        fingerprint="abc",
        status=status,
        labels={"alertname": "HeliotropeAccuracyFell"},
        summary="accuracy .72",
        started=world.now,
        ended=None,
        changed=world.now,
    )
    put = Put(StateKind.ALARM, "loans", "abc", alarm.to_json(), revision)
    world.state.apply(world.now, [put])


def test_the_schedule_catches_up_with_the_newest_firing_alone(world: World) -> None:
    world.tick(HOUR)
    assert world.launchpad.started == []
    world.tick(timedelta(days=5))
    assert world.trigger(CauseKind.SCHEDULE).cause.key == "2026-03-06T06:00:00+00:00"
    world.tick(HOUR)
    world.tick(-timedelta(days=3))
    assert len(world.launchpad.started) == 1


def test_the_accepted_level_is_that_of_the_first_champion_and_never_reset(world: World) -> None:
    world.promote("2")
    lower = MetricValue(value=0.5, low=0.4, high=0.6)
    evaluation = Evaluation(primary="accuracy", rows=100, metrics={"accuracy": lower})
    world.registry.files["run-2", ARTIFACT_EVALUATION_FILE] = evaluation.to_json()
    world.restart()
    world.tick(HOUR)
    level = read_accepted(world.state, world.spec)
    assert level is not None
    assert (level.value, level.version, level.accepted_at) == (0.94, "1", T0)


def test_while_the_target_is_missed_the_loop_asks_again_within_its_budget(world: World) -> None:
    world.spec = world.spec.model_copy(
        update={"retraining": world.spec.retraining.model_copy(update={"schedule": None})}
    )
    world.restart()
    world.door.ask(cause(), world.now)
    for day in range(6):
        if world.launchpad.state(world.launchpad.started[-1]) is RunState.RUNNING:
            world.launchpad.end(Outcome.REGISTERED, str(day + 2))
            world.promote(str(day + 2))
        world.tick(HOUR)
        assert len(world.launchpad.started) == day + 1, "no mature window of it says anything yet"
        world.window(0.8, version=str(day + 2))
        world.tick(HOUR)
        world.tick(22 * HOUR)
    assert all("persistence" in key for key in world.launchpad.started[1:])
    assert len(world.launchpad.started) == 7
    world.launchpad.end(Outcome.REGISTERED, "99")
    world.promote("99")
    world.window(0.93, version="99")
    world.tick(HOUR)
    world.tick(24 * HOUR)
    assert len(world.launchpad.started) == 7


def test_failed_candidates_in_a_row_end_it_until_a_person_forces_one(world: World) -> None:
    world.door.ask(cause(), world.now)
    world.launchpad.end(Outcome.NOT_ACCEPTED)
    world.tick(HOUR)
    assert len(world.launchpad.started) == 1
    world.tick(6 * HOUR)
    assert len(world.launchpad.started) == 2
    world.launchpad.die()
    for _ in range(4):
        world.tick(12 * HOUR)
    assert len(world.launchpad.started) == 2
    assert world.board.snapshot(metrics.RETRAINING_FAILURES) == [(("loans",), 2)]
    order = cause(CauseKind.PERSON, "ada 1", person="ada", text="look again")
    refused = world.door.ask(order.model_copy(update={"asked_at": world.now}), world.now)
    assert (refused.state, refused.rule) == (TriggerState.REFUSED, "max_failures")
    forced = order.model_copy(update={"key": "ada 2", "forced": True, "asked_at": world.now})
    assert world.door.ask(forced, world.now).state is TriggerState.RUNNING
    assert world.log(DecisionKind.PERSON) == [
        "ordered a retraining: look again",
        "ordered a retraining (forced): look again",
    ]
    refusals = world.state.decisions("loans", kinds=[DecisionKind.TRIGGER])
    assert any(one.evidence.get("refused_by") == "max_failures" for one in refusals)


def test_a_candidate_that_was_rolled_back_counts_as_failed(world: World) -> None:
    world.door.ask(cause(), world.now)
    world.launchpad.end(Outcome.REGISTERED, "2")
    rollout = Rollout(
        model="loans",
        number=1,
        candidate="2",
        champion="1",
        cause="accuracy",
        opened_at=world.now,
        entered_at=world.now,
        seen_at=world.now,
        reason="opened",
    )
    world.state.apply(world.now, [Put(StateKind.ROLLOUT, "loans", "1", rollout.to_json(), 0)])
    world.tick(HOUR)
    waiting = world.door.ask(cause(CauseKind.DRIFT, "w", asked_at=world.now, harm=True), world.now)
    assert waiting.rule == "rollout"
    back = rollout.model_copy(update={"state": RolloutState.ROLLED_BACK})
    world.state.apply(world.now, [Put(StateKind.ROLLOUT, "loans", "1", back.to_json(), 1)])
    world.tick(timedelta(minutes=1))
    assert world.board.snapshot(metrics.RETRAINING_FAILURES) == [(("loans",), 1)]
    world.tick(6 * HOUR)
    assert len(world.launchpad.started) == 2


def test_a_run_that_died_without_a_word_is_interrupted_and_taken_back(world: World) -> None:
    world.door.ask(cause(), world.now)
    world.launchpad.die()
    world.restart()
    world.tick(HOUR)
    ended = world.trigger(CauseKind.ACCURACY)
    assert (ended.outcome, ended.state) == (Outcome.INTERRUPTED, TriggerState.ENDED)
    assert "died without a word" in ended.reason
    assert world.registry.discarded == 1
    outcome = world.launchpad.log(ended.cause.run_key).outcome()
    assert outcome is not None
    assert outcome.step == "train_model"


def test_a_run_that_cannot_start_yet_is_started_by_a_later_tick(world: World) -> None:
    world.launchpad.broken = True
    assert world.door.ask(cause(), world.now).state is TriggerState.REQUESTED
    with pytest.raises(HeliotropeError, match="must be writable"):
        world.tick(HOUR)
    world.launchpad.broken = False
    world.restart()
    world.tick(HOUR)
    assert world.trigger(CauseKind.ACCURACY).state is TriggerState.RUNNING
    assert len(world.launchpad.started) == 1


def test_nothing_is_decided_while_mlflow_is_away(world: World) -> None:
    world.registry.away = True
    with pytest.raises(UnavailableError):
        world.door.ask(cause(), world.now)
    assert world.triggers() == []


def test_two_doors_that_decide_at_once_start_one_run(world: World, tmp_path: Path) -> None:
    other = RetrainingDoor(world.spec, replace(world.tools(), state=SqlStateStore(world.url)))
    seen = world.door.facts.history
    asked: list[Trigger] = []

    def history(now: datetime, triggers: Any, since: datetime | None = None) -> Any:
        found = seen(now, triggers)
        if not asked:
            # Between the one's reading and its writing, the other does both.
            asked.append(other.ask(cause(CauseKind.DRIFT, "other", harm=True), now))
        return found

    world.door.facts.history = history  # type: ignore[method-assign]
    mine = world.door.ask(cause(), world.now)
    assert asked[0].state is TriggerState.RUNNING
    assert (mine.state, mine.rule) == (TriggerState.WAITING, "single flight")
    assert len(world.launchpad.started) == 1


class Mortal:
    """Passes calls on, and kills the process before or after the n-th that changes something."""

    def __init__(self, target: Any, calls: list[str], at: int, before: bool) -> None:
        self._target, self._calls, self._at, self._before = target, calls, at, before

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if name not in ("apply", "start"):
            return attribute

        def call(*arguments: Any, **named: Any) -> Any:
            self._calls.append(name)
            last = len(self._calls) == self._at
            if last and self._before:
                raise Killed
            answer = attribute(*arguments, **named)
            if last:
                raise Killed
            return answer

        return call


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", range(1, 7))
def test_a_controller_killed_at_any_point_leaves_exactly_one_run(
    world: World, at: int, before: bool
) -> None:
    told = cause()
    calls: list[str] = []
    tools = world.tools()
    mortal = replace(
        tools,
        state=Mortal(tools.state, calls, at, before),
        launcher=Mortal(tools.launcher, calls, at, before),
    )
    duty = RetrainingDuty(world.spec, mortal, world.board)
    killed = False
    try:
        duty.door.ask(told, world.now)
        duty.run(world.now + HOUR)
        world.register("2")
        duty.run(world.now + 2 * HOUR)
        duty.run(world.now + 8 * HOUR)
    except Killed:
        killed = True
    world.restart()
    world.door.ask(told, world.now + 3 * HOUR)
    world.tick(3 * HOUR)
    if world.launchpad.state(told.run_key) is RunState.RUNNING:
        world.register("2")
    world.tick(HOUR)
    assert killed or len(calls) < at
    assert [key for key in world.launchpad.started if "schedule" not in key] == [told.run_key]
    ended = world.trigger(CauseKind.ACCURACY)
    assert (ended.state, ended.version) == (TriggerState.ENDED, "2")
    log = world.state.decisions("loans")
    assert first_broken(log) is None
    assert len([one for one in log if one.kind is DecisionKind.RUN]) == 1
    started = [one for one in log if one.key == f"trigger/{told.hash}/start"]
    assert len(started) == 1


def test_what_a_pod_left_is_decided_by_the_controller_with_its_labels(world: World) -> None:
    world.truth.clear()
    world.window(0.72, labels=40)
    told = cause(CauseKind.DRIFT, "w7", harm=True, remedy=Remedy.RETRAIN)
    left = WaitingDoor(world.spec, world.state, "run:monitoring").ask(told, world.now)
    assert (left.state, left.rule) == (TriggerState.WAITING, "asked")
    world.tick(HOUR)
    assert world.launchpad.started == []
    waiting = world.trigger(CauseKind.DRIFT)
    assert (waiting.state, waiting.rule != "asked") == (TriggerState.WAITING, True)
    world.window(0.72)
    world.tick(HOUR)
    assert world.launchpad.started == [told.run_key]
    # Told again, it stays what the controller made of it.
    again = WaitingDoor(world.spec, world.state, "run:monitoring").ask(told, world.now)
    assert again.state is TriggerState.RUNNING


def test_a_firing_that_a_pod_and_the_controller_both_follow_starts_one_run(world: World) -> None:
    world.tick(timedelta(hours=6))
    for _ in range(2):
        pod = WaitingDoor(world.spec, world.state, "schedule")
        ask_by_schedule(world.spec, pod, world.now)
        world.tick(timedelta(minutes=1))
    assert len([key for key in world.launchpad.started if "schedule" in key]) == 1
    assert first_broken(world.state.decisions("loans")) is None
