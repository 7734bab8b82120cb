"""The serving port on copies: what it asks of the API server, and that an old copy does no harm."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from heliotrope.adapters.cluster import access
from heliotrope.adapters.cluster.access import Account
from heliotrope.adapters.cluster.kserve import KServeServing
from heliotrope.adapters.cluster.kserve_looking import Reader, served_kinds
from heliotrope.adapters.cluster.pods import pods_of
from heliotrope.adapters.cluster.watched_objects import WatchedObjects
from heliotrope.adapters.inference_service import ServingMode
from heliotrope.adapters.scrape_watch import ScrapeWatch
from heliotrope.bootstrap_cluster import ClusterPlatform
from heliotrope.domain.serving_plan import ObservedServing, ServingPlan
from heliotrope.settings import Settings
from heliotrope.vocabulary import ENV_KSERVE_MODE, LABEL_MODEL, Role
from tests.emulated.kserve_steps import AT, DARK, FULL, HALF, MODEL, ONE, WAY, Cluster, plan
from tests.emulated.watching import mute, unmute, until


class WatchedCluster(Cluster):
    """A cluster and a serving port that looks at copies."""

    def connect_watched(self) -> KServeServing:
        """A controller's process."""
        self.kinds = kinds = served_kinds(self.mode)
        self.copies = WatchedObjects(self.kube(), kinds)
        self.serving = self.connect(watched=self.copies)
        for kind in kinds:
            self.copies.list(kind, {})
        until(lambda: self.copies.current and len(self.api.watches) == len(kinds))
        return self.serving

    def told(self) -> None:
        """Await that copies are what the server has."""

        def held(kind: access.Kind) -> dict[str, str]:
            return _versions(self.copies.list(kind, {}))

        def kept(kind: access.Kind) -> dict[str, str]:
            every = self.api.every(kind.plural)
            return _versions([o for o in every if LABEL_MODEL in o["metadata"].get("labels", {})])

        until(lambda: self.copies.current and all(held(k) == kept(k) for k in self.kinds))

    def carried_out(self, one: ServingPlan) -> ObservedServing:
        """Ask for a plan, and look until it is so."""
        self.serving.apply(one)
        for _ in range(60):
            seen = self.serving.observe(MODEL)
            if seen is not None and seen.settled:
                return seen
            self.round()
            self.told()
        raise AssertionError(f"{one.weights} is not carried out: {seen}")

    def launched_dark(self) -> Self:
        """With all traffic on one version, and another beside it."""
        for one in (ONE, DARK):
            self.carried_out(one)
        return self

    def asked(self) -> list[tuple[str, str]]:
        """What was asked since the last time, but for watches, which go on."""
        with self.api.lock:
            found = [one for one in self.api.asked if "watch=true" not in one[1]]
            del self.api.asked[:]
        return found

    def close(self) -> None:
        self.copies.close()
        self.api.stop()


def _versions(objects: list[dict[str, dict[str, str]]]) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in objects}


@pytest.fixture
def cluster() -> Iterator[Callable[[ServingMode], WatchedCluster]]:
    made: list[WatchedCluster] = []

    def make(mode: ServingMode) -> WatchedCluster:
        made.append(WatchedCluster(mode))
        made[-1].connect_watched()
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("mode", ServingMode)
def test_a_version_goes_all_the_way_on_copies(
    cluster: Callable[[ServingMode], WatchedCluster], mode: ServingMode
) -> None:
    here = cluster(mode)
    for one in WAY:
        seen = here.carried_out(one)
        assert here.serving.plan(MODEL) == one
        assert {r.version: r.role for r in seen.revisions} == {
            r.version: r.role for r in one.revisions
        }
        assert here.served() == {v: w for v, w in one.weights.items() if w}
    assert here.controller.killed_before_ready == []
    bare = Cluster(mode)
    try:
        for one in WAY:
            bare.settle(one)
    finally:
        bare.api.stop()
    assert [here.made(v) for v in ("1", "2")] == [bare.made(v) for v in ("1", "2")]


def tick(serving: KServeServing, counts: ScrapeWatch, models: list[str]) -> None:
    """What a controller's duties read of each model."""
    for model in models:
        counts.sample(model, AT)
        assert serving.plan(model) is not None
        seen = serving.observe(model)
        assert seen is not None
        assert seen.settled


def counts_by(serving: KServeServing, reader: Reader) -> ScrapeWatch:
    return ScrapeWatch(serving, lambda _: "", instances=lambda model: pods_of(reader, model))


@pytest.mark.parametrize("mode", ServingMode)
def test_what_a_tick_asks_does_not_grow_with_models(
    cluster: Callable[[ServingMode], WatchedCluster], mode: ServingMode
) -> None:
    """Of copies nothing but their watches; the API itself six or seven times a model."""
    here = cluster(mode)
    models: list[str] = []
    for number in (1, 10, 50):
        more = [f"m{n}" for n in range(len(models), number)]
        models += more
        for model in more:
            here.serving.apply(plan({"1": Role.CHAMPION}, model=model, v1=100))
        here.round(8)
        here.told()
        for model in more:
            here.serving.observe(model)
        here.told()
        here.asked()
        tick(here.serving, counts_by(here.serving, here.copies), models)
        assert here.asked() == []
        bare = here.connect()
        tick(bare, counts_by(bare, here.kube()), models)
        assert len(here.asked()) == number * (6 if mode is ServingMode.STANDARD else 7)


@pytest.mark.parametrize("mode", ServingMode)
def test_copies_of_before_anothers_turn_write_nothing(
    cluster: Callable[[ServingMode], WatchedCluster], mode: ServingMode
) -> None:
    here = cluster(mode).launched_dark()
    mute(here.api)
    # The one who writes is not the one who looks at copies.
    ours, here.serving = here.serving, here.connect()
    here.settle(HALF)
    here.asked()
    seen = ours.observe(MODEL)
    assert seen is not None
    assert seen.weights == {"1": 100}
    assert here.asked() == []
    assert here.served() == {"1": 50, "2": 50}
    unmute(here.api)
    here.told()
    seen = ours.observe(MODEL)
    assert seen is not None
    assert (seen.weights, seen.settled) == ({"1": 50, "2": 50}, True)


@pytest.mark.parametrize("mode", ServingMode)
def test_a_step_that_copies_call_for_is_made_of_what_the_server_says(
    cluster: Callable[[ServingMode], WatchedCluster], mode: ServingMode
) -> None:
    here = cluster(mode).launched_dark()
    # Copies hold a plan of which no step is made yet ...
    ours, another = here.serving, here.connect()
    with here.api.lock:
        refused, here.api.admit = (
            here.api.admit,
            lambda _, after: "not now" if after["kind"] == "InferenceService" else None,
        )
    another.apply(FULL)
    here.told()
    mute(here.api)
    here.api.admit = refused
    # ... while it was carried out and taken back again.
    here.serving = another
    here.settle(FULL)
    here.settle(HALF)
    here.asked()
    seen = ours.observe(MODEL)
    assert seen is not None
    assert (seen.weights, seen.settled) == ({"1": 50, "2": 50}, True)
    assert [method for method, _ in here.asked() if method != "GET"] == []
    assert here.served() == {"1": 50, "2": 50}


@pytest.mark.parametrize("mode", ServingMode)
def test_a_plan_of_ours_is_in_force_for_the_next_look_though_no_news_came(
    cluster: Callable[[ServingMode], WatchedCluster], mode: ServingMode
) -> None:
    here = cluster(mode).launched_dark()
    mute(here.api)
    here.serving.apply(HALF)
    assert here.serving.plan(MODEL) == HALF
    seen = here.serving.observe(MODEL)
    assert seen is not None
    assert not seen.settled


def test_a_model_that_copies_do_not_hold_yet_is_not_taken_for_one_that_was_never_served(
    cluster: Callable[[ServingMode], WatchedCluster],
) -> None:
    here = cluster(ServingMode.STANDARD)
    mute(here.api)
    ours, here.serving = here.serving, here.connect()
    here.settle(ONE)
    assert ours.plan(MODEL) == ONE
    seen = ours.observe(MODEL)
    assert seen is not None
    assert seen.weights == {"1": 100}


@pytest.mark.parametrize("mode", ServingMode)
def test_a_controllers_platform_reads_copies_until_it_is_closed_and_no_others_does(
    cluster: Callable[[ServingMode], WatchedCluster], mode: ServingMode, tmp_path: Path
) -> None:
    here = cluster(mode)
    here.carried_out(ONE)
    here.copies.close()
    settings = Settings.parse(
        {"HELIOTROPE_PLACE": "cluster", ENV_KSERVE_MODE: mode.value}, tmp_path
    )
    for account in (Account.PIPELINE, Account.DEPLOYER):
        assert ClusterPlatform(settings, {}, str(account), here.kube()).watched is None
    platform = ClusterPlatform(settings, {}, str(Account.CONTROLLER), here.kube())
    copies = platform.watched
    assert copies is not None
    platform.serving.observe(MODEL)
    platform.traffic.sample(MODEL, AT)
    until(lambda: copies.current and len(here.api.watches) == len(here.kinds))
    here.asked()
    platform.serving.observe(MODEL)
    assert platform.serving.plan(MODEL) == ONE
    platform.traffic.sample(MODEL, AT)
    assert here.asked() == []
    platform.close()
    until(lambda: not here.api.watches)
    assert not copies.current
