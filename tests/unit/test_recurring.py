"""What a spec asks of a cluster's schedules, and a pod that leaves a cause at the door."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.domain.asking import schedule_cause
from heliotrope.domain.decisions import DecisionKind
from heliotrope.domain.triggers import Trigger, TriggerState
from heliotrope.ports.state import Put, StateKind
from heliotrope.service.recurring import (
    ask_by_schedule,
    monitoring_cron,
    names_of,
    recurring_runs,
)
from heliotrope.service.waiting_door import WaitingDoor
from heliotrope.spec import ModelSpec, parse_spec

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
SETTLE = timedelta(minutes=2)
SPEC = """
name: loans
task: binary
event_time: at
label: {name: y, positive: 1, delay: 30d}
source: {path: loans.csv}
features: [{name: income, type: float}]
metrics: {primary: roc_auc}
"""


def spec(more: str = "") -> ModelSpec:
    return parse_spec(SPEC + more)


def test_every_model_is_monitored_and_retrained_only_where_its_spec_says_when() -> None:
    (only,) = recurring_runs(spec(), SETTLE)
    assert (only.name, only.cron) == ("loans-monitoring", "0 2 0 * * *")
    both = recurring_runs(spec('retraining: {schedule: "0 3 * * 7"}\n'), SETTLE)
    assert [one.name for one in both] == names_of("loans")
    assert both[1].cron == "0 0 3 * * 0"
    assert both[1].pipeline == "retraining.yaml"
    assert "name: loans" in both[1].parameters["spec"]


def test_a_window_that_no_cron_line_names_is_a_period() -> None:
    (only,) = recurring_runs(spec("monitoring: {window: 7d}\n"), SETTLE)
    assert (only.cron, only.every_seconds) == (None, 7 * 86400)


@given(st.integers(1, 3 * 24 * 60), st.integers(0, 90))
def test_a_monitoring_line_fires_once_a_window_and_after_it(window: int, settle: int) -> None:
    line = monitoring_cron(timedelta(minutes=window), timedelta(minutes=settle))
    if line is None:
        return
    seconds, minutes, hours, *rest = line.split()
    assert (seconds, rest) == ("0", ["*", "*", "*"])
    at = [
        int(hour) * 60 + int(minute)
        for hour in (range(24) if hours == "*" else hours.split(","))
        for minute in minutes.split(",")
    ]
    # Windows begin at midnight, so each firing lies `settle` after the end of one.
    assert sorted(at) == [begin + settle for begin in range(0, 24 * 60, window)]


@pytest.fixture
def state(tmp_path: Path) -> SqlStateStore:
    return SqlStateStore(f"sqlite:///{tmp_path / 'state.db'}")


def triggers(state: SqlStateStore) -> list[Trigger]:
    return [Trigger.from_json(one.text) for one in state.kept(StateKind.TRIGGER, "loans")]


def test_a_cause_is_left_once_and_waits_for_the_controller(state: SqlStateStore) -> None:
    model = spec('retraining: {schedule: "0 3 * * *"}\n')
    for _ in range(3):
        said = ask_by_schedule(model, WaitingDoor(model, state, "schedule"), NOW)
    assert "2026-03-04 03:00 UTC: waiting (asked)" in said
    (left,) = triggers(state)
    assert left.state is TriggerState.WAITING
    assert left.requested_at is None
    # The controller names the same firing alike: whoever comes first, there is one cause.
    after = NOW - timedelta(days=1)
    own = schedule_cause("loans", "0 3 * * *", after, NOW)
    assert own is not None
    assert own.hash == left.cause.hash
    entries = state.decisions("loans", kinds=[DecisionKind.TRIGGER], limit=10)
    assert [entry.actor for entry in entries] == ["schedule"]


def test_what_was_settled_is_answered_and_not_opened_again(state: SqlStateStore) -> None:
    model = spec('retraining: {schedule: "0 3 * * *"}\n')
    door = WaitingDoor(model, state, "schedule")
    ask_by_schedule(model, door, NOW)
    kept = state.kept(StateKind.TRIGGER, "loans")[0]
    settled = Trigger.from_json(kept.text).model_copy(
        update={"state": TriggerState.REFUSED, "rule": "budget", "reason": "3 of 3 today"}
    )
    put = Put(StateKind.TRIGGER, "loans", settled.cause.hash, settled.to_json(), kept.revision)
    state.apply(NOW, [put], [])
    assert "refused (budget): 3 of 3 today" in ask_by_schedule(model, door, NOW)
    assert [one.state for one in triggers(state)] == [TriggerState.REFUSED]


def test_a_model_without_a_schedule_asks_nothing(state: SqlStateStore) -> None:
    said = ask_by_schedule(spec(), WaitingDoor(spec(), state, "schedule"), NOW)
    assert "no schedule" in said
    assert triggers(state) == []
