"""Alarms: what a webhook call says, and what is left of many calls about the same thing."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliotrope.domain.alarms import (
    Alarm,
    AlarmSource,
    AlarmStatus,
    Told,
    changed_at,
    entry_of,
    hear,
    leading,
    read_call,
    turned,
)
from heliotrope.errors import UsageError
from heliotrope.vocabulary import MODEL_PLATFORM

T0 = datetime(2026, 3, 2, 12, tzinfo=UTC)
GO_ZERO = "0001-01-01T00:00:00Z"


def alert(minutes: int = 0, status: str = "firing", **more: Any) -> dict[str, Any]:
    began = T0 + timedelta(minutes=minutes)
    return {
        "status": status, "labels": {"alertname": "AccuracyLow", "model": "loans"},
        "annotations": {"summary": "accuracy 0.58 < 0.60"}, "startsAt": began.isoformat(),
        "endsAt": GO_ZERO if status == "firing" else (began + timedelta(minutes=1)).isoformat(),
        "fingerprint": "f1", "generatorURL": "http://p/graph", **more,
    }  # fmt: skip


def call(*alerts: dict[str, Any]) -> tuple[Told, ...]:
    return read_call(json.dumps({"version": "4", "groupKey": "x", "alerts": alerts}).encode())


def play(*alerts: dict[str, Any]) -> tuple[Alarm | None, int]:
    """The alarm in the end, and how often it turned; a minute between two calls."""
    known, turns = None, 0
    for place, told in enumerate(call(*alerts)):
        after = hear(known, told, T0 + timedelta(hours=1, minutes=place))
        turns += turned(known, after)
        known = after
    return known, turns


@pytest.mark.parametrize(
    ("alerts", "turns", "firing", "firings"),
    [
        ([alert()], 1, True, 1),
        ([alert()] * 5, 1, True, 1),
        ([alert(), alert(status="resolved")], 2, False, 1),
        ([alert(), alert(status="resolved"), alert(status="resolved")], 2, False, 1),
        ([alert(status="resolved")], 1, False, 1),
        ([alert(), alert(status="resolved"), alert(9)], 3, True, 2),
        ([alert(9), alert(0, status="resolved")], 1, True, 1),
        ([alert(), alert(status="resolved"), alert()], 3, True, 2),
    ],
    ids=[
        "new", "repeated", "over", "over twice", "only its end is told", "again", "a late copy",
        "on again under the same start",
    ],
)  # fmt: skip
def test_many_calls_are_one_alarm(
    alerts: list[dict[str, Any]], turns: int, firing: bool, firings: int
) -> None:
    alarm, turned_times = play(*alerts)
    assert alarm is not None
    assert (turned_times, alarm.firing, alarm.firings) == (turns, firing, firings)
    assert (alarm.ended is None) == firing


def test_new_numbers_of_a_firing_alarm_are_kept_without_a_turn() -> None:
    worse = alert(annotations={"summary": "accuracy 0.51 < 0.60"})
    alarm, turns = play(alert(), worse)
    assert alarm is not None
    assert (alarm.summary, turns) == ("accuracy 0.51 < 0.60", 1)
    assert alarm.changed == T0 + timedelta(hours=1)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["firing", "resolved"]))))
def test_telling_everything_twice_changes_nothing(told: list[tuple[int, str]]) -> None:
    once = [alert(minutes, status) for minutes, status in told]
    twice = [one for one in once for _ in range(2)]
    left, turns = play(*once)
    right, turns_twice = play(*twice)
    assert turns == turns_twice
    assert (left and left.status, left and left.started) == (
        right and right.status, right and right.started,
    )  # fmt: skip


def test_an_entry_of_the_log_is_named_by_the_turn() -> None:
    entries = []
    for status in ("firing", "resolved"):
        alarm, _ = play(alert(status=status), alert(status=status))
        assert alarm is not None
        entries.append(entry_of(alarm.model_copy(update={"summary": "0.7 is low."}), T0))
    assert len({entry.key for entry in entries}) == 2
    # What a rule said last was so before it was over.
    assert [entry.reason.partition(" ")[2] for entry in entries] == [
        "is on: 0.7 is low.",
        "is over; it said: 0.7 is low.",
    ]


@pytest.mark.parametrize(
    ("labels", "model"),
    [
        ({}, MODEL_PLATFORM),
        ({"model": "loans"}, "loans"),
        ({"model": "../etc"}, MODEL_PLATFORM),
        ({"model": "a" * 200}, MODEL_PLATFORM),
        ({"model": MODEL_PLATFORM}, MODEL_PLATFORM),
    ],
)
def test_alarms_of_no_model_are_the_platforms(labels: dict[str, str], model: str) -> None:
    alarm, _ = play(alert(labels={"alertname": "X", **labels}))
    assert alarm is not None
    assert alarm.model == model


def test_without_a_fingerprint_the_labels_are_one() -> None:
    first, second = call(alert(fingerprint=""), alert(9, fingerprint=""))
    assert first.key == second.key != ""
    (other,) = call(alert(fingerprint="", labels={"alertname": "Other"}))
    assert other.key != first.key


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[]", "an object"),
        (b'{"version": "3", "alerts": []}', "version"),
        (b'{"version": "4"}', "alerts: Field required"),
        (b'{"version": "4", "alerts": [{}]}', "alerts.0.status"),
        (json.dumps({"version": "4", "alerts": [alert(labels={})]}).encode(), "alertname"),
        (json.dumps({"version": "4", "alerts": [alert(startsAt=GO_ZERO)]}).encode(), "zone"),
        (
            json.dumps({"version": "4", "alerts": [alert(startsAt="9999-12-31T23:59:59-09:00")]})
            .encode(),
            "zone",
        ),
        (json.dumps({"version": "4", "alerts": [alert(fingerprint="x'; --")]}).encode(), "match"),
        (
            json.dumps({"version": "4", "alerts": [alert(labels={"alertname": "x" * 5000})]})
            .encode(),
            "4000",
        ),
        (json.dumps({"version": "4", "alerts": [alert()] * 2001}).encode(), "2000"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_call_says_what_is_wrong(body: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_call(body)


def test_nul_bytes_are_left_out_since_databases_take_none() -> None:
    (told,) = call(alert(annotations={"summary": "a\0b"}))
    assert hear(None, told, T0).summary == "ab"


def test_an_alarm_survives_its_document() -> None:
    alarm, _ = play(alert(), alert(status="resolved"))
    assert alarm is not None
    assert Alarm.from_json(alarm.to_json()) == alarm
    assert alarm.status is AlarmStatus.RESOLVED


def own(name: str, minutes: int, slice_: str = "", **more: Any) -> Alarm:
    began = T0 + timedelta(minutes=minutes)
    fields = {
        "name": name, "model": "loans", "fingerprint": f"{name} {slice_}", "ended": None,
        "source": AlarmSource.CONTROLLER, "status": AlarmStatus.FIRING, "summary": "it fell",
        "labels": {"alertname": name} | ({"slice": slice_} if slice_ else {}),
        "started": began, "changed": began, **more,
    }  # fmt: skip
    return Alarm(**fields)


def test_one_alarm_stands_for_all_that_a_fall_rings() -> None:
    fall, floor = own("accuracy_fall", 5), own("accuracy_floor", 1)
    part = own("accuracy_fall", 0, "grade = A")
    assert leading([part, floor, fall]) == fall
    assert leading([part, floor]) == floor
    assert leading([part]) == part
    over = fall.model_copy(update={"status": AlarmStatus.RESOLVED})
    assert leading([over]) is None


def test_only_the_controllers_own_tests_say_when_the_world_changed() -> None:
    told = own("HeliotropeAccuracyFell", 90, source=AlarmSource.PROMETHEUS)
    assert changed_at([told]) is None
    assert changed_at([told, own("accuracy_fall", 5)]) == T0 + timedelta(minutes=5)
