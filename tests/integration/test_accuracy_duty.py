"""Accuracy alarms on a real event store, a real truth and a real database."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliotrope.adapters.event_reader import DeltaOutcomeReader
from heliotrope.adapters.event_store import DeltaEventStore
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.adapters.truth_access import open_truth
from heliotrope.domain.accuracy_state import AccuracyState
from heliotrope.domain.alarms import Alarm, AlarmStatus
from heliotrope.domain.decisions import DecisionKind, first_broken
from heliotrope.domain.drift.documents import DriftReport, DriftRule
from heliotrope.domain.labels import LabelRows, LabelUpload
from heliotrope.domain.quality import Finding as DataFinding
from heliotrope.domain.quality import Level
from heliotrope.domain.spool_batch import decode_batch
from heliotrope.domain.spool_format import Record, SegmentHeader, encode_header, encode_record
from heliotrope.domain.triggers import AcceptedLevel
from heliotrope.ports.state import Put, StateKind
from heliotrope.service.alarms import KEY, AccuracyCursor, AccuracyDuty, AlarmTools
from heliotrope.settings import Settings
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.telemetry.board import Board
from heliotrope.telemetry.controller_metrics import ALARM_ACTIVE, CONTROLLER_METRICS
from heliotrope.vocabulary import Role, Task, Verdict

T0 = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPEC = """
name: loans
task: binary
label: {name: y, positive: true, delay: 2h}
event_time: at
source: {path: loans.csv}
metrics: {primary: %s}
features: [{name: grade, type: category, categories: [a, b]}]
monitoring: {window: 1h, mature_coverage: 1.0, floor: %s}
%s
"""
ACCEPTED = AcceptedLevel(
    metric="accuracy", value=0.94, low=0.935, high=0.945, rows=10_000, version="1", accepted_at=T0
)


def spec_of(primary: str = "accuracy", floor: Any = 0.8, more: str = "") -> ModelSpec:
    return parse_spec(SPEC % (primary, floor, more))


class Killed(BaseException):
    """The process is gone; nothing of ours catches it."""


@dataclass
class MortalState:
    """A database whose client dies at the n-th write, before or after it is committed."""

    real: SqlStateStore
    dies_at: int
    committed: bool
    writes: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def apply(self, *args: Any, **more: Any) -> Any:
        self.writes += 1
        if self.writes == self.dies_at:
            if self.committed:
                self.real.apply(*args, **more)
            raise Killed
        return self.real.apply(*args, **more)


@dataclass
class World:
    """One model's platform from the collector to the duty."""

    folder: Path
    spec: ModelSpec
    accepted: AcceptedLevel | None = ACCEPTED
    store: DeltaEventStore = field(init=False)
    state: SqlStateStore = field(init=False)
    board: Board = field(init=False)
    spools: int = 0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def __post_init__(self) -> None:
        self.settings = Settings(self.folder, str(self.folder / "store"), "sqlite://")
        self.store = DeltaEventStore(self.settings.store)
        self.state = SqlStateStore(f"sqlite:///{self.folder / 'state.db'}")
        self.board = Board(CONTROLLER_METRICS)
        if self.accepted is not None:
            text = self.accepted.to_json()
            put = Put(StateKind.ACCEPTED, "loans", self.accepted.metric, text, 0)
            self.state.apply(T0, [put])

    def hour(
        self, hour: int, error: float, rows: int = 400, version: str = "1",
        role: Role = Role.CHAMPION, sure: float = 0.9, grade_errors: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        """Predictions spread over an hour, each labelled half an hour later."""
        self.spools += 1
        head = SegmentHeader(
            spool=f"00000000-0000-0000-0000-{self.spools:012d}", first_sequence=1, model="loans",
            version=version, role=role, task=Task.BINARY, features=self.spec.features,
            classes=("false", "true"),
        )  # fmt: skip
        body, ids, labels = encode_header(head), [], []
        for n in range(rows):
            at = T0 + hour * HOUR + n * HOUR / rows
            name, grade, said = f"s{self.spools}-{n}", n % 2, bool(self.rng.random() < 0.5)
            chance = error if grade_errors is None else grade_errors[grade]
            truth = said ^ bool(self.rng.random() < chance)
            body += encode_record(
                Record(
                    sequence=n + 1, predicted_at_ns=round(at.timestamp() * 1e6) * 1000,
                    latency_ns=1, request_id=name, protocol="v2",
                    features=np.array([[grade]], np.float32),
                    scores=np.array([sure if said else 1 - sure], np.float32),
                    predictions=np.array([said], np.uint16), entity_keys=None,
                )
            )  # fmt: skip
            ids.append(f"{name}/0")
            labels.append(str(truth).lower())
        received = round((T0 + (hour + 0.5) * HOUR).timestamp() * 1e6)
        batch = decode_batch(body)
        assert self.store.append_predictions("loans", [batch], {head.spool: rows}, received)
        none = [None] * rows
        told = LabelRows(list(ids), none, labels, list(none), list(range(rows)))
        upload = LabelUpload(told, f"b{self.spools}")
        assert self.store.append_labels("loans", [upload], [received])

    def run(self, now: datetime, state: Any = None) -> None:
        """A controller is started, runs the duty once and ends."""
        with ExitStack() as opened:
            truth = opened.enter_context(open_truth(self.settings, self.spec))
            truth.tick()
            tools = AlarmTools(
                state or self.state, DeltaOutcomeReader(self.settings.store), truth.windows,
                self.no_registry,
            )  # fmt: skip
            AccuracyDuty(self.spec, tools, self.board).run(now)

    def no_registry(self) -> Any:
        """Nothing is registered."""

        class Empty:
            def versions(self, model: str) -> list[Any]:
                return []

            def by_alias(self, model: str, alias: str) -> None:
                return None

        return Empty()

    def alarms(self) -> dict[str, Alarm]:
        found = [Alarm.from_json(one.text) for one in self.state.kept(StateKind.ALARM, "loans")]
        return {" ".join(filter(None, (a.name, a.labels.get("slice")))): a for a in found}

    def remembered(self) -> AccuracyState:
        kept = self.state.get(StateKind.DETECTOR, "loans", KEY)
        assert kept is not None
        return AccuracyState.from_json(kept.text)

    def until(self) -> datetime:
        kept = self.state.get(StateKind.CURSOR, "loans", KEY)
        assert kept is not None
        return AccuracyCursor.from_json(kept.text).until

    def shown(self) -> dict[str, float]:
        return {labels[1]: value for labels, value in self.board.snapshot(ALARM_ACTIVE)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, spec_of())


def test_a_fall_is_told_once_with_its_beginning_and_numbers(world: World) -> None:
    for hour in range(3):
        world.hour(hour, 0.06)
    world.run(T0 + 3 * HOUR)
    assert world.shown() == {"accuracy_fall": 0, "accuracy_floor": 0}
    assert world.alarms() == {}
    world.hour(3, 0.28)
    world.run(T0 + 4 * HOUR)
    world.run(T0 + 4.5 * HOUR)
    found = world.alarms()["accuracy_fall"]
    assert found.firing
    assert found.severity == "page"
    # Twenty labels are three minutes here.
    assert abs(found.started - (T0 + 3 * HOUR)) < timedelta(minutes=6)
    assert found.changed == T0 + 4 * HOUR
    assert "< 0.940 as accepted" in found.summary
    assert found.summary.startswith("accuracy 0.7")
    assert world.shown()["accuracy_fall"] == 1
    told = world.state.decisions("loans", kinds=[DecisionKind.ALARM])
    raised = [entry for entry in told if "accuracy_fall" in entry.subject]
    assert len(raised) == 1
    promises = raised[0].evidence["promises"]
    assert promises["run_length"] > 8000
    assert promises["delay_p50"] < promises["delay_p95"]
    assert first_broken(told) is None


def fault_in(hour: int) -> DriftReport:
    """What the watch over drift says of an hour in which a column came broken."""
    broken = DataFinding(check="rescaled", level=Level.FATAL, column="grade", message="x0.001")
    return DriftReport(
        model="loans", version="1", window_from=T0 + hour * HOUR, window_to=T0 + (hour + 1) * HOUR,
        rows=400, reference_rows=5_000, rule=DriftRule(), verdict=Verdict.ERROR, reason="broken",
        score=0.0, columns=(), faults=(broken,), scored=0, expected=1, smallest_shift=0.2,
    )  # fmt: skip


def test_a_model_is_not_judged_by_hours_whose_data_were_broken(world: World) -> None:
    for hour in range(4):
        # A broken column makes a third of the answers wrong in two of them.
        world.hour(hour, 0.06 if hour < 2 else 0.34)
    reports = [
        Put(StateKind.DRIFT, "loans", f"window-{hour}", fault_in(hour).to_json(), 0)
        for hour in (2, 3)
    ]
    world.state.apply(T0, reports)
    world.hour(4, 0.06)
    world.run(T0 + 5 * HOUR)
    assert world.alarms() == {}
    assert world.until() == T0 + 5 * HOUR
    # The same outcomes without the finding are a fall.
    for hour in (5, 6):
        world.hour(hour, 0.34)
    world.run(T0 + 7 * HOUR)
    assert world.alarms()["accuracy_fall"].firing


def test_what_is_not_mature_is_not_judged(world: World) -> None:
    world.hour(0, 0.5)
    world.run(T0 + 0.9 * HOUR)
    assert world.state.get(StateKind.CURSOR, "loans", KEY) is None
    assert world.alarms() == {}
    world.run(T0 + 1 * HOUR)
    assert world.until() == T0 + HOUR
    assert world.alarms()["accuracy_fall"].firing


@pytest.mark.parametrize(("dies_at", "committed"), [(1, True), (2, False), (3, True)])
def test_a_controller_killed_at_a_write_feeds_each_row_once(
    tmp_path: Path, dies_at: int, committed: bool
) -> None:
    worlds = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name, spec_of())
        for hour, error in enumerate((0.06, 0.28, 0.28)):
            world.hour(hour, error, rows=150)
        worlds.append(world)
    whole, killed = worlds
    whole.run(T0 + 3 * HOUR)
    with pytest.raises(Killed):
        killed.run(T0 + 3 * HOUR, MortalState(killed.state, dies_at, committed))
    killed.run(T0 + 3 * HOUR)
    assert killed.remembered() == whole.remembered()
    assert killed.alarms() == whole.alarms()
    assert whole.alarms()["accuracy_fall"].firing
    logs = [[d.model_dump() for d in w.state.decisions("loans")] for w in worlds]
    assert logs[0] == logs[1]


def test_one_controller_of_many_ticks_remembers_what_one_late_tick_does(tmp_path: Path) -> None:
    worlds = []
    for name in ("each", "late"):
        (tmp_path / name).mkdir()
        worlds.append(World(tmp_path / name, spec_of()))
    each, late = worlds
    for hour, error in enumerate((0.06, 0.3, 0.3)):
        for world in worlds:
            world.hour(hour, error, rows=200)
        each.run(T0 + (hour + 1) * HOUR)
    late.run(T0 + 3 * HOUR)
    assert each.remembered() == late.remembered()


def test_an_alarm_ends_when_outcomes_show_it(world: World) -> None:
    world.hour(0, 0.3)
    world.run(T0 + HOUR)
    assert world.alarms()["accuracy_fall"].firing
    for hour in range(1, 4):
        world.hour(hour, 0.04, rows=500)
    world.run(T0 + 4 * HOUR)
    found = world.alarms()["accuracy_fall"]
    assert found.status is AlarmStatus.RESOLVED
    assert "smaller than what matters" in found.summary
    assert world.shown()["accuracy_fall"] == 0
    world.hour(4, 0.3)
    world.run(T0 + 5 * HOUR)
    again = world.alarms()["accuracy_fall"]
    assert again.firing
    assert again.firings == 2
    words = [d.reason.split(":")[0] for d in world.state.decisions("loans")
             if "accuracy_fall" in d.subject]  # fmt: skip
    assert words == ["accuracy_fall is on", "accuracy_fall is over", "accuracy_fall is on"]


def test_a_new_champion_is_judged_anew_by_the_same_target(world: World) -> None:
    world.hour(0, 0.3)
    world.run(T0 + HOUR)
    target = world.remembered().falls[""].bound
    world.hour(1, 0.2, version="2")
    world.hour(1, 0.9, version="3", role=Role.SHADOW)
    world.run(T0 + 2 * HOUR)
    state = world.remembered()
    assert state.version == "2"
    assert state.falls[""].bound == target == pytest.approx(0.06)
    # Better than the one before is not good enough.
    found = world.alarms()["accuracy_fall"]
    assert found.firing
    assert found.labels["version"] == "2"
    assert found.started >= T0 + HOUR
    assert found.firings == 2
    world.hour(2, 0.05, version="4")
    world.run(T0 + 3 * HOUR)
    assert "version 4 took over from 2" in world.alarms()["accuracy_fall"].summary
    assert world.shown()["accuracy_fall"] == 0


def test_below_the_floor_is_told_beside_the_fall(world: World) -> None:
    world.hour(0, 0.12)
    world.run(T0 + HOUR)
    assert world.shown() == {"accuracy_fall": 1, "accuracy_floor": 0}
    world.hour(1, 0.45)
    world.run(T0 + 2 * HOUR)
    floor = world.alarms()["accuracy_floor"]
    assert floor.firing
    assert "< floor 0.8" in floor.summary


def test_a_slice_that_falls_is_named_and_the_others_are_not(tmp_path: Path) -> None:
    world = World(tmp_path, spec_of(floor="null", more="slices: [{feature: grade}]"))
    for hour in range(2):
        world.hour(hour, 0.06)
    for hour in range(2, 4):
        world.hour(hour, 0.0, grade_errors=(0.0, 0.25))
    world.run(T0 + 4 * HOUR)
    assert world.alarms().keys() == {"accuracy_fall", "accuracy_fall grade = b"}
    found = world.alarms()["accuracy_fall grade = b"]
    assert found.severity == "ticket"
    assert "in grade = b" in found.summary
    assert world.remembered().falls["grade = a"].run_length == 2 * 8000
    assert world.shown() == {
        "accuracy_fall": 1,
        "accuracy_fall grade = a": 0,
        "accuracy_fall grade = b": 1,
    }


def test_a_model_judged_by_ranking_is_watched_by_its_brier_score(tmp_path: Path) -> None:
    world = World(tmp_path, spec_of("roc_auc", "null"), accepted=None)
    for hour in range(3):
        world.hour(hour, 0.1)
    world.run(T0 + 3 * HOUR)
    base = world.remembered().bases[""]
    assert base.rows == 800
    assert base.mean == pytest.approx(0.09, abs=0.02)
    assert world.alarms() == {}
    world.hour(3, 0.4)
    world.run(T0 + 4 * HOUR)
    found = world.alarms()["accuracy_fall"]
    assert "Brier score" in found.summary
    assert abs(found.started - (T0 + 3 * HOUR)) < timedelta(minutes=10)


def test_a_floor_of_ranking_needs_k_of_n_windows(tmp_path: Path) -> None:
    world = World(tmp_path, spec_of("roc_auc", 0.9), accepted=None)
    world.hour(0, 0.02)
    world.hour(1, 0.3)
    world.run(T0 + 2 * HOUR)
    assert "accuracy_floor" not in world.alarms()
    world.hour(2, 0.3)
    world.run(T0 + 3 * HOUR)
    found = world.alarms()["accuracy_floor"]
    assert found.started == T0 + HOUR
    assert found.summary.startswith("roc_auc 0.69")
    assert "in 2 of the last 3 windows" in found.summary


def test_a_window_nobody_labelled_is_passed_when_its_delay_is_over(world: World) -> None:
    world.hour(0, 0.06, rows=50)
    batch_only = world.store.append_labels
    world.store.append_labels = lambda *_: True  # type: ignore[method-assign]
    world.hour(1, 0.06, rows=50)
    world.store.append_labels = batch_only  # type: ignore[method-assign]
    world.hour(2, 0.06, rows=50)
    world.run(T0 + 3 * HOUR)
    assert world.until() == T0 + HOUR
    world.run(T0 + 4 * HOUR)
    assert world.until() == T0 + 3 * HOUR
    assert world.remembered().falls[""].seen == 100
