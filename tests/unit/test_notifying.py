"""People are told of what needs them, at least once, however a mail server behaves."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from heliotrope.adapters.notify import AppriseMessenger
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.domain.accuracy import AlarmKind
from heliotrope.domain.decisions import DecisionEntry, DecisionKind, seal
from heliotrope.domain.notices import ECHO, GRAVITY, REMIND, Mood, News, Notice
from heliotrope.errors import UnavailableError, UsageError
from heliotrope.service.notifying import NotifyDuty, Patience
from heliotrope.settings import Settings
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.alerts import ALERTS
from heliotrope.telemetry.board import Board

NOW = datetime(2026, 3, 2, tzinfo=UTC)
WAIT = 20.0
QUICK = Patience(tries=3, first_seconds=0.001)


def entry(kind: DecisionKind, **more: Any) -> DecisionEntry:
    return DecisionEntry(
        model="loans", at=NOW, kind=kind, actor="controller", subject="rollout 3",
        reason="accuracy 0.58 < 0.60", evidence=more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "evidence", "title"),
    [
        (DecisionKind.ALARM, {"name": "Low", "status": "firing"}, "Alarm: Low (loans)"),
        (DecisionKind.ALARM, {"name": "Low", "status": "resolved"}, "Over: Low (loans)"),
        (DecisionKind.DIAGNOSIS, {"remedy": "fix_data"}, "A person is needed (loans)"),
        (DecisionKind.DIAGNOSIS, {"remedy": "retrain"}, None),
        (DecisionKind.ROLLOUT, {"to": {"state": "rolled_back"}}, "rollout 3: rolled back (loans)"),
        (DecisionKind.ROLLOUT, {"to": {"state": "baking"}}, "rollout 3: is champion (loans)"),
        (DecisionKind.ROLLOUT, {"to": {"state": "canary"}}, None),
        (DecisionKind.TRIGGER, {}, None),
        (DecisionKind.TRAFFIC, {}, None),
        (DecisionKind.PERSON, {"state": "rolled_back"}, None),
    ],
)
def test_people_hear_of_what_needs_them(
    kind: DecisionKind, evidence: dict[str, Any], title: str | None
) -> None:
    (told,) = hear(entry(kind, **evidence))
    assert (told and told.title) == title
    assert told is None or "0.58" in told.text


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("refused, max_failures: 3 candidates in a row came to nothing", True),
        ("refused, cooldown: the last run was 2 h ago", False),
    ],
)
def test_people_hear_when_retraining_is_given_up(reason: str, told: bool) -> None:
    said = entry(DecisionKind.TRIGGER).model_copy(update={"reason": reason})
    assert (hear(said) != [None]) == told


FLOOR, FALL = "accuracy_floor", "accuracy_fall"
BELOW, FELL = "HeliotropeAccuracyBelowFloor", "HeliotropeAccuracyFell"


def alarm(name: str, status: str = "firing", place: str = "") -> DecisionEntry:
    source = "prometheus" if name.startswith("Heliotrope") else "controller"
    return entry(
        DecisionKind.ALARM, name=name, status=status, source=source,
        fingerprint=f"{name} {place}", labels={"slice": place} if place else {},
    )  # fmt: skip


def over(name: str, place: str = "") -> DecisionEntry:
    return alarm(name, "resolved", place)


def hear(*happens: DecisionEntry) -> list[Notice | None]:
    """What one who follows the log from its first entry is told of each."""
    news = News()
    return [news.hear(seal(one, number, "0" * 64)) for number, one in enumerate(happens, 1)]


@pytest.mark.parametrize(
    ("happens", "heard"),
    [
        # One fall: the controller's test, its echo, the rules that look at the same windows.
        (
            [alarm(FALL), alarm(ECHO), alarm(FELL), over(FALL), over(ECHO), over(FELL)],
            [f"Alarm: {FALL}", f"Over: {FALL}"],
        ),
        # A rule was first, and the controller's word on the end holds.
        ([alarm(FELL), alarm(FALL), over(FELL), over(FALL)], [f"Alarm: {FELL}", f"Over: {FELL}"]),
        # What is graver is told, and the end once nothing is left of it.
        (
            [alarm(FALL), alarm(FLOOR), alarm(BELOW), over(FLOOR), over(BELOW), over(FALL)],
            [f"Alarm: {FALL}", f"Alarm: {FLOOR}", f"Over: {FALL}"],
        ),
        (
            [alarm(FLOOR), alarm(FALL), over(FLOOR), over(FALL)],
            [f"Alarm: {FLOOR}", f"Over: {FLOOR}"],
        ),
        # Slices are told apart, and stand back behind the whole.
        (
            [alarm(FALL, place="a"), alarm(FALL, place="b"), alarm(FALL), alarm(FALL, place="c")],
            [f"Alarm: {FALL}"] * 3,
        ),
        (
            [alarm(FALL), alarm(FALL, place="a"), over(FALL), over(FALL, "a")],
            [f"Alarm: {FALL}", f"Over: {FALL}", f"Over: {FALL}"],
        ),
        # It comes back.
        ([alarm(FALL), over(FALL)] * 2, [f"Alarm: {FALL}", f"Over: {FALL}"] * 2),
        # It is told again that it is on.
        ([alarm(FELL), alarm(FELL), over(FELL)], [f"Alarm: {FELL}", f"Over: {FELL}"]),
        # An end whose beginning nobody heard of.
        ([over(FALL)], [f"Over: {FALL}"]),
        # Other alarms are other news.
        (
            [alarm(FALL), alarm("HeliotropeDataDrifted"), over("HeliotropeDataDrifted")],
            [f"Alarm: {FALL}", "Alarm: HeliotropeDataDrifted", "Over: HeliotropeDataDrifted"],
        ),
    ],
)
def test_one_fall_is_told_once_though_it_raises_several_alarms(
    happens: list[DecisionEntry], heard: list[str]
) -> None:
    told = hear(*happens)
    assert [one.title for one in told if one] == [f"{title} (loans)" for title in heard]


@pytest.mark.parametrize(
    ("kind", "evidence", "mood"),
    [
        (DecisionKind.ALARM, {"name": "Low", "status": "firing", "severity": "page"}, Mood.FAILURE),
        (
            DecisionKind.ALARM,
            {"name": "Low", "status": "firing", "severity": "ticket"},
            Mood.WARNING,
        ),
        (DecisionKind.ALARM, {"name": "Low", "status": "resolved"}, Mood.SUCCESS),
        (DecisionKind.ROLLOUT, {"to": {"state": "rolled_back"}}, Mood.FAILURE),
        (DecisionKind.ROLLOUT, {"to": {"state": "aborted"}}, Mood.WARNING),
        (DecisionKind.ROLLOUT, {"to": {"state": "promoted"}}, Mood.INFO),
    ],
)
def test_good_news_is_no_warning(kind: DecisionKind, evidence: dict[str, Any], mood: Mood) -> None:
    (told,) = hear(entry(kind, **evidence))
    assert told is not None
    assert told.mood is mood


def test_a_fault_is_told_once_a_day_and_another_one_at_once() -> None:
    found = [(0, "income"), (7, "income"), (8, "age"), (14, "income"), (30, "income"), (31, "age")]
    faults = [
        entry(DecisionKind.DIAGNOSIS, remedy="fix_data", subject=column).model_copy(
            update={"at": NOW + timedelta(hours=hours)}
        )
        for hours, column in found
    ]
    told = hear(*faults)
    assert timedelta(days=1) == REMIND
    heard = [one for one, notice in zip(found, told, strict=True) if notice]
    assert heard == [(0, "income"), (8, "age"), (30, "income")]


@pytest.mark.parametrize(
    ("first", "hours", "heard"),
    [(BELOW, 23, False), (BELOW, 24, True), (FLOOR, 24, False)],
)
def test_a_rule_whose_end_was_lost_hushes_nothing(first: str, hours: int, heard: bool) -> None:
    later = alarm(FALL).model_copy(update={"at": NOW + timedelta(hours=hours)})
    told = hear(alarm(first), later)
    assert told[0] is not None
    assert (told[1] is not None) is heard


def test_a_slice_that_is_still_on_is_named_when_the_whole_is_over() -> None:
    told = hear(alarm(FALL), alarm(FALL, place="grade = C"), over(FALL))
    assert told[-1] is not None
    assert told[-1].text.endswith(f"\nStill on: {FALL} in grade = C.")


def test_alarms_of_one_fall_are_those_that_exist() -> None:
    rules = {rule.name for rule in ALERTS}
    assert {ECHO, *GRAVITY} - rules == {str(AlarmKind.FALL), str(AlarmKind.FLOOR)}


@dataclass
class Post:
    """A messenger that fails as often as it is told to."""

    failures: int = 0
    sent: list[str] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    places: int = 1
    error: Exception = field(default_factory=lambda: UnavailableError("Number 1 did not."))

    def send(self, title: str, text: str, mood: Mood) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error
        self.sent.append(text)
        self.arrived.release()


@pytest.fixture
def state(tmp_path: Path) -> SqlStateStore:
    return SqlStateStore(f"sqlite:///{tmp_path}/state.db")


def duty(state: SqlStateStore, post: Post) -> NotifyDuty:
    return NotifyDuty(state, ["loans"], post, Board(metrics.CONTROLLER_METRICS), QUICK)


def log(state: SqlStateStore, *numbers: int, kind: DecisionKind = DecisionKind.ALARM) -> None:
    for number in numbers:
        told = entry(kind, name=f"A{number}", status="firing")
        state.apply(NOW, decisions=[told.model_copy(update={"reason": f"reason {number}"})])


def until(done: Callable[[], bool], act: Callable[[], None]) -> None:
    """Run until something holds; the bound is only for a test that would fail."""
    waiting = threading.Event()
    for _ in range(2000):
        act()
        if done():
            return
        waiting.wait(0.005)
    raise AssertionError("never came")


def place(state: SqlStateStore) -> int:
    from heliotrope.service.decision_feed import DecisionFeed

    feed = DecisionFeed(state, "notifications", "loans")
    feed.fresh()
    return feed.done_to


def test_each_decision_is_told_once_and_in_order_across_restarts(state: SqlStateStore) -> None:
    post = Post()
    log(state, 1, 2)
    first = duty(state, post)
    until(lambda: place(state) == 2, lambda: first.run(NOW))
    first.close()
    log(state, 3, 4)
    log(state, 5, kind=DecisionKind.TRAFFIC)
    second = duty(state, post)
    until(lambda: place(state) == 5, lambda: second.run(NOW))
    assert post.sent == ["reason 1", "reason 2", "reason 3", "reason 4"]


def test_what_was_told_of_a_fall_is_known_after_a_restart(state: SqlStateStore) -> None:
    post = Post()
    state.apply(NOW, decisions=[alarm(FALL)])
    first = duty(state, post)
    until(lambda: place(state) == 1, lambda: first.run(NOW))
    first.close()
    state.apply(NOW, decisions=[alarm(FELL).model_copy(update={"reason": "the same fall"})])
    state.apply(NOW, decisions=[over(FALL).model_copy(update={"reason": "it is over"})])
    second = duty(state, post)
    until(lambda: place(state) == 3, lambda: second.run(NOW))
    assert post.sent == ["accuracy 0.58 < 0.60", "it is over"]


def test_what_was_not_sent_before_the_end_is_sent_after_the_next_start(
    state: SqlStateStore,
) -> None:
    log(state, 1)
    never = Post(failures=10**9)
    first = NotifyDuty(
        state, ["loans"], never, Board(metrics.CONTROLLER_METRICS), Patience(10**6, 3600.0)
    )
    first.run(NOW)
    first.close()
    assert place(state) == 0
    post = Post()
    second = duty(state, post)
    until(lambda: place(state) == 1, lambda: second.run(NOW))
    assert post.sent == ["reason 1"]


@pytest.mark.parametrize(("failures", "sent"), [(2, ["reason 1", "reason 2"]), (3, ["reason 2"])])
def test_tries_are_counted_and_bounded(
    state: SqlStateStore, failures: int, sent: list[str]
) -> None:
    post = Post(failures)
    log(state, 1, 2)
    telling = duty(state, post)
    until(lambda: place(state) == 2, lambda: telling.run(NOW))
    assert post.sent == sent
    counted = dict(telling._board.snapshot(metrics.NOTIFICATIONS))
    assert counted == {("failed",): failures, ("sent",): len(sent)}


def test_an_error_nobody_knows_is_logged_without_its_words(
    state: SqlStateStore, caplog: pytest.LogCaptureFixture
) -> None:
    post = Post(1, error=RuntimeError("token=hunter2 refused"))
    log(state, 1)
    telling = duty(state, post)
    with caplog.at_level(logging.WARNING):
        until(lambda: place(state) == 1, lambda: telling.run(NOW))
    assert "RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text


def test_without_places_nothing_is_sent_and_nothing_piles_up(state: SqlStateStore) -> None:
    log(state, 1, 2, 3)
    nobody = duty(state, Post(places=0))
    nobody.run(NOW)
    assert place(state) == 3


class _Door(BaseHTTPRequestHandler):
    got: list[bytes]
    status: int

    def do_POST(self) -> None:
        self.got.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def door() -> Any:
    kind = type("Door", (_Door,), {"got": [], "status": 200})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kind, server.server_address[1]
    server.shutdown()
    server.server_close()


def test_apprise_sends_to_a_real_address(door: Any) -> None:
    kind, port = door
    AppriseMessenger([f"json://127.0.0.1:{port}/x"]).send("Alarm: Low", "accuracy", Mood.FAILURE)
    assert len(kind.got) == 1
    assert b'"title": "Alarm: Low"' in kind.got[0]


def test_a_place_that_refuses_is_told_of_without_its_address(
    door: Any, caplog: pytest.LogCaptureFixture
) -> None:
    kind, port = door
    kind.status = 500
    messenger = AppriseMessenger([f"json://user:hunter2@127.0.0.1:{port}/s3cret"])
    with pytest.raises(UnavailableError, match=r"Number 1 \(json\) of 1") as caught:
        messenger.send("t", "x", Mood.INFO)
    shown = f"{caught.value} {messenger!r} {caplog.text}"
    assert "hunter2" not in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize("url", ["hunter2", "nosuch://hunter2"])
def test_a_wrong_address_is_refused_at_start_without_being_shown(url: str) -> None:
    with pytest.raises(UsageError, match="Number 2 is none") as caught:
        AppriseMessenger(["json://127.0.0.1:9/x", url])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("", ()),
        ("json://a,json://b", ("json://a", "json://b")),
        ("json://a\n  json://b\n\n", ("json://a", "json://b")),
        ("mailto://u:p@h?to=a@x.org,b@x.org, slack://t", (
            "mailto://u:p@h?to=a@x.org,b@x.org", "slack://t",
        )),
    ],
)  # fmt: skip
def test_settings_part_addresses_and_never_show_them(text: str, urls: tuple[str, ...]) -> None:
    settings = Settings.parse({"HELIOTROPE_NOTIFY": text}, Path("/tmp"))
    assert settings.notify == urls
    assert all(url not in repr(settings) for url in urls)
    again = Settings.parse(settings.environment(), Path("/tmp"))
    assert again.notify == urls
