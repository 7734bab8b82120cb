"""The controller's lock by a Lease: one holds it; when that one is silent, another takes over."""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from heliotrope.adapters.cluster import lease as lease_module
from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kube_login import client_of
from heliotrope.adapters.cluster.lease import DURATION_SECONDS, GIVE_UP_SECONDS, LeaseLock
from heliotrope.adapters.embedded.lock_file import LockFile
from heliotrope.errors import UnavailableError
from heliotrope.service.controller import Lock
from tests.emulated.api_http import Fault
from tests.emulated.apiserver import ApiServer


@pytest.fixture
def api() -> Iterator[ApiServer]:
    server = ApiServer().start()
    yield server
    server.stop()


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Hand:
    return Hand()


def lock(api: ApiServer, holder: str, clock: Hand) -> LeaseLock:
    kube = client_of(api.url, Account.CONTROLLER, "shop", patience=0.3)
    return LeaseLock(kube, "heliotrope", holder, renew=False, monotonic=clock)


@pytest.mark.parametrize("kind", ["file", "lease"])
def test_one_holds_it_until_it_gives_it_back(
    kind: str, api: ApiServer, clock: Hand, tmp_path: Path
) -> None:
    def made(name: str) -> Lock:
        return lock(api, name, clock) if kind == "lease" else LockFile(tmp_path / "lock")

    first, second = made("a"), made("b")
    assert first.take()
    assert first.take()
    assert not second.take()
    assert second.holder() != ""
    second.release()
    assert not second.take()
    first.release()
    assert second.take()
    assert not first.take()
    second.release()


def test_a_silent_holder_is_replaced_by_the_waiters_own_clock(api: ApiServer, clock: Hand) -> None:
    dead, waiting = lock(api, "dead", clock), lock(api, "waiting", clock)
    assert dead.take()
    assert not waiting.take()
    assert waiting.holder() == "dead"
    clock.at += DURATION_SECONDS
    assert not waiting.take()
    clock.at += 1
    assert waiting.take()
    stored = api.find("leases", "heliotrope")
    assert stored is not None
    assert stored["spec"]["holderIdentity"] == "waiting"
    assert stored["spec"]["leaseTransitions"] == 1
    assert not dead.take()


def test_a_holder_that_renews_is_never_replaced(api: ApiServer, clock: Hand) -> None:
    here, waiting = lock(api, "here", clock), lock(api, "waiting", clock)
    assert here.take()
    for _ in range(10):
        clock.at += DURATION_SECONDS - 1
        assert here.take()
        assert not waiting.take()


def test_a_holder_stands_a_short_silence_of_the_cluster_and_no_long_one(
    api: ApiServer, clock: Hand
) -> None:
    assert GIVE_UP_SECONDS < DURATION_SECONDS
    here = lock(api, "here", clock)
    assert here.take()
    api.faults.append(Fault(503, times=10_000))
    clock.at += GIVE_UP_SECONDS - 1
    assert here.take()
    clock.at += 1
    with pytest.raises(UnavailableError):
        here.take()
    api.faults.clear()
    assert here.take()


def test_whoever_was_away_and_finds_another_holding_it_gives_up(
    api: ApiServer, clock: Hand
) -> None:
    here, other = lock(api, "here", clock), lock(api, "other", clock)
    assert here.take()
    assert not other.take()
    clock.at += DURATION_SECONDS + 1
    assert other.take()
    assert not here.take()
    here.release()
    assert other.take()


def test_of_two_who_take_at_once_one_gets_it(api: ApiServer, clock: Hand) -> None:
    first, second = lock(api, "first", clock), lock(api, "second", clock)
    asks = first._kube.get

    def late(*args: object, **named: object) -> object:
        found = asks(*args, **named)  # type: ignore[arg-type]
        if found is None:
            assert second.take()
        return found

    first._kube.get = late  # type: ignore[method-assign,assignment]
    assert not first.take()
    assert second.take()


def test_a_thread_renews_it_and_tells_when_it_is_lost(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "RENEW_SECONDS", 0.02)
    lost = Event()
    kube = client_of(api.url, Account.CONTROLLER, "shop", patience=0.3)
    here = LeaseLock(kube, "heliotrope", "here", lost=lost.set)
    assert here.take()
    first = _renewed(api)
    _await(lambda: _renewed(api) != first)
    api.edit("leases", "heliotrope", {"spec": {"holderIdentity": "thief"}}, "kubectl")
    assert lost.wait(30)
    here.release()
    stored = api.find("leases", "heliotrope")
    assert stored is not None
    assert stored["spec"]["holderIdentity"] == "thief"


def _renewed(api: ApiServer) -> str:
    stored = api.find("leases", "heliotrope")
    assert stored is not None
    return str(stored["spec"]["renewTime"])


def _await(check: Callable[[], bool]) -> None:
    waiting = Event()
    for _ in range(3000):
        if check():
            return
        waiting.wait(0.01)
    raise AssertionError("not within 30 s")
