"""Copies that a watch keeps: what they show, how they go on, and when they are not to be read."""

import logging
from collections.abc import Iterator
from threading import Event
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from heliotrope.adapters.cluster import access, kube_link, watched_kind
from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_login import client_of
from heliotrope.adapters.cluster.watched_objects import WatchedObjects
from heliotrope.errors import UnavailableError
from heliotrope.vocabulary import LABEL_MODEL
from tests.emulated.api_http import Fault
from tests.emulated.apiserver import ApiServer
from tests.emulated.object_store import Object
from tests.emulated.watching import mute, unmute, until

MAP = access.CONFIG_MAP
OF_LOANS = {LABEL_MODEL: "loans"}


class Town:
    """An API server, a client, and copies of its ConfigMaps."""

    def __init__(self, **more: Any) -> None:
        self.api = ApiServer(**more).start()
        self.kube = client_of(self.api.url, Account.CONTROLLER, "shop", token="c", patience=0.2)
        self.copies = WatchedObjects(self.kube, [MAP])

    def put(self, name: str, value: str, model: str | None = "loans") -> None:
        """As somebody else writes it."""
        labels = {} if model is None else {LABEL_MODEL: model}
        found = {"metadata": {"labels": labels}, "data": {"x": value}}
        self.api.put(("", "configmaps", "shop", name), found)

    def drop(self, name: str) -> None:
        self.api.drop(("", "configmaps", "shop", name))

    def read(self, name: str) -> str | None:
        found = self.copies.get(MAP, name)
        return found["data"]["x"] if found else None

    def shown(self) -> dict[str, str]:
        """All of the model, by copies alone."""
        assert self.copies.current
        return {
            one["metadata"]["name"]: one["data"]["x"] for one in self.copies.list(MAP, OF_LOANS)
        }

    def watch(self) -> None:
        """Begin, and await the list and the watch."""
        self.copies.list(MAP, OF_LOANS)
        until(lambda: self.copies.current and self.api.watches)
        del self.api.asked[:]

    def asked(self) -> list[str]:
        """What was asked since, in a word each."""
        with self.api.lock:
            every = list(self.api.asked)
        return [
            "watch" if "watch=true" in path else "list" if "limit=" in path else f"{method.lower()}"
            for method, path in every
        ]

    def close(self) -> None:
        self.copies.close()
        self.api.stop()


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    monkeypatch.setattr(watched_kind, "LONGEST_PAUSE_SECONDS", 0.2)
    here = Town()
    yield here
    here.close()


def test_what_is_written_changed_deleted_and_unlabelled_is_told_without_a_request(
    town: Town,
) -> None:
    town.put("a", "1")
    town.watch()
    town.put("b", "1")
    town.put("a", "2")
    until(lambda: town.shown() == {"a": "2", "b": "1"})
    town.put("b", "2", model="other")
    until(lambda: town.shown() == {"a": "2"})
    assert [one["data"]["x"] for one in town.copies.list(MAP, {LABEL_MODEL: "other"})] == ["2"]
    town.put("b", "3", model=None)
    until(lambda: town.copies.list(MAP, {LABEL_MODEL: "other"}) == [])
    town.drop("a")
    until(lambda: town.shown() == {})
    assert town.asked() == []


def test_no_copy_is_no_proof_that_there_is_no_object(town: Town) -> None:
    town.put("bare", "1", model=None)
    town.watch()
    assert town.read("bare") == "1"
    assert town.read("none") is None
    assert town.asked() == ["get", "get"]


def test_a_watch_that_the_server_ends_goes_on_from_its_last_version_and_lists_nothing_anew(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_kind, "WATCH_SECONDS", 1)
    town.put("a", "1")
    town.watch()
    # Of another kind: only a bookmark can tell how far the watch is.
    town.api.put(("", "pods", "shop", "p"), {"metadata": {}})
    version = town.api.version
    until(lambda: len(town.asked()) >= 2)
    town.put("a", "2")
    until(lambda: town.shown() == {"a": "2"})
    assert set(town.asked()) == {"watch"}
    query = parse_qs(urlsplit(town.api.asked[-1][1]).query)
    assert int(query["resourceVersion"][0]) >= version
    assert query["labelSelector"] == [LABEL_MODEL]


@pytest.mark.parametrize("open_watch", [True, False])
def test_what_the_server_does_not_remember_any_more_is_listed_again(
    town: Town, open_watch: bool
) -> None:
    town.put("a", "1")
    town.put("b", "1")
    town.watch()
    if not open_watch:
        # Refused at its begin rather than ended amid it.
        town.api.faults.append(Fault(410, times=1, within="watch=true"))
        town.api.cut()
    with town.api.lock:
        for watch in town.api.watches:
            watch.mute = True
        town.drop("b")
        town.put("a", "2")
        town.api.forget()
        for watch in town.api.watches:
            watch.mute = False
        town.api.changed.notify_all()
    until(lambda: town.copies.current and town.shown() == {"a": "2"})
    assert "list" in town.asked()
    assert all(fault.times == 0 for fault in town.api.faults)


def test_while_a_watch_is_broken_the_server_itself_is_asked(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    town.put("a", "1")
    town.watch()
    for within in ("watch=true", "limit="):
        town.api.faults.append(Fault(503, times=10**6, within=within))
    town.api.cut()
    until(lambda: not town.copies.current)
    town.put("a", "2")
    assert town.read("a") == "2"
    with pytest.raises(UnavailableError, match="must answer to list configmaps"):
        town.copies.list(MAP, OF_LOANS)
    town.put("a", "3")
    town.api.faults.clear()
    until(lambda: town.copies.current)
    assert town.shown() == {"a": "3"}
    assert "configmaps must be watched" in caplog.text


def test_a_watch_that_says_nothing_any_more_is_not_believed_for_long(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_kind, "WATCH_SECONDS", 1)
    monkeypatch.setattr(kube_link, "SLACK_SECONDS", 0.5)
    town.put("a", "1")
    town.watch()
    mute(town.api)
    town.put("a", "2")
    until(lambda: town.read("a") == "2")
    assert "list" in town.asked() or "get" in town.asked()


def test_copies_of_which_nothing_was_heard_for_too_long_are_not_read(town: Town) -> None:
    now = [0.0]
    town.copies = WatchedObjects(town.kube, [MAP], lambda: now[0])
    town.put("a", "1")
    town.watch()
    mute(town.api)
    town.put("a", "2")
    assert town.read("a") == "1"
    now[0] += watched_kind.SILENT_SECONDS + 1
    assert town.read("a") == "2"
    assert town.asked() == ["get"]


def config(name: str, value: str) -> Object:
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": OF_LOANS},
        "data": {"x": value},
    }  # fmt: skip


def test_a_write_of_ours_is_read_at_once_and_older_news_do_not_undo_it(town: Town) -> None:
    town.put("a", "1")
    town.watch()
    mute(town.api)
    town.put("a", "theirs")
    town.put("z", "1")
    before_ours = town.api.version
    town.copies.note(MAP, town.kube.apply(config("a", "ours"), MAP, force=True))
    town.copies.note(MAP, town.kube.apply(config("new", "ours"), MAP))
    assert town.shown() == {"a": "ours", "new": "ours"}
    unmute(town.api, upto=before_ours)
    until(lambda: "z" in town.shown())
    assert town.shown() == {"a": "ours", "new": "ours", "z": "1"}
    unmute(town.api)
    town.drop("new")
    town.put("a", "after")
    until(lambda: town.shown() == {"a": "after", "z": "1"})


def test_a_write_that_was_told_of_before_its_answer_does_not_bring_back_what_came_after(
    town: Town,
) -> None:
    town.watch()
    made = town.kube.apply(config("a", "ours"), MAP)
    town.drop("a")
    town.put("b", "1")
    until(lambda: town.shown() == {"b": "1"})
    town.copies.note(MAP, made)
    assert town.shown() == {"b": "1"}


def test_a_write_while_a_list_is_under_way_is_not_lost(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, slow = KubeClient.listed, Event()

    def late(self: KubeClient, *args: Any, **more: Any) -> Any:
        found = listed(self, *args, **more)
        town.copies.note(MAP, town.kube.apply(config("a", "ours"), MAP))
        slow.set()
        return found

    monkeypatch.setattr(KubeClient, "listed", late)
    mute(town.api)
    town.copies._kinds[MAP].start()
    assert slow.wait(60)
    monkeypatch.setattr(KubeClient, "listed", listed)
    until(lambda: town.copies.current)
    assert town.shown() == {"a": "ours"}


@pytest.mark.parametrize("left_out", ["list", "watch"])
def test_an_account_that_may_not_watch_reads_all_the_same_and_says_so_once(
    left_out: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_kind, "LONGEST_PAUSE_SECONDS", 0.05)
    verbs = [verb for verb in ("get", "list", "watch") if verb != left_out]
    rules = {"c": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]}
    here = Town(rules=rules)
    try:
        here.put("a", "1")
        with caplog.at_level(logging.WARNING):
            assert here.read("a") == "1"
            until(lambda: sum(word != "get" for word in here.asked()) >= 4)
        here.put("a", "2")
        assert here.read("a") == "2"
        assert not here.copies.current
        assert caplog.text.count(f"cannot {left_out} resource") == 1
    finally:
        here.close()


def test_whoever_stops_ends_threads_at_once_and_is_answered_by_the_server(town: Town) -> None:
    town.put("a", "1")
    town.watch()
    thread = town.copies._kinds[MAP]._thread
    assert thread is not None
    town.copies.close()
    assert not thread.is_alive()
    until(lambda: not town.api.watches)
    assert town.read("a") == "1"
    assert town.asked() == ["get"]
