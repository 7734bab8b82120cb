"""Rollouts from end to end on a platform in memory, with the real state store; and killed anywhere.

The suite drives everything through the ports: a world with users, labels and a controller whose
process may die between any two calls.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliotrope.adapters.embedded.memory_outcomes import MemoryOutcomes
from heliotrope.adapters.embedded.memory_serving import Behaviour, MemoryServing
from heliotrope.adapters.inference_service import ServingMode
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.domain.decisions import DecisionKind, first_broken
from heliotrope.domain.rollout.documents import Rollout
from heliotrope.domain.rollout.orders import Order
from heliotrope.domain.rollout.states import RolloutState as S
from heliotrope.errors import HeliotropeError, NotFoundError, UnavailableError, UsageError
from heliotrope.ports.registry import RegisteredVersion
from heliotrope.service.rollout import RolloutService, Ticked
from heliotrope.service.rollout_gathering import Gatherer, Sources
from heliotrope.service.shadow import Shadow
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.vocabulary import ALIAS_CANDIDATE, ALIAS_CHAMPION
from tests.emulated.kserve_memory import KServeMemory

SPEC = """
name: loans
task: binary
label: {name: y, positive: 1}
source: {path: loans.csv}
metrics: {primary: accuracy}
features: [{name: x, type: float}]
rollout:
  shadow: {share: 1.0, minimum_labels: 60, backfill: 2d}
  steps: [50, 100]
  step_minimum: 20m
  step_timeout: 12h
  bake: 2h
"""
T0 = datetime(2026, 3, 1, tzinfo=UTC)
TICK = timedelta(minutes=10)


def model(edge: float) -> Callable[[Any], float]:
    """Says yes above an edge; the truth's is 0.5."""
    return lambda row: 0.9 if row["x"] > edge else 0.1


class Aliases:
    """A registry of versions and aliases, for who only reads versions and moves aliases."""

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self.known: dict[str, RegisteredVersion] = {}
        self.moved: list[tuple[str, str]] = []
        self.away = False

    def add(self, version: str, alias: str) -> None:
        self.known[version] = RegisteredVersion(
            "loans", version, f"run-{version}", T0 - timedelta(days=9), (), {}, {}, True
        )
        self.aliases[alias] = version

    def by_alias(self, model: str, alias: str) -> RegisteredVersion | None:
        self._require()
        return self.known.get(self.aliases.get(alias, ""))

    def set_alias(self, model: str, alias: str, version: str) -> None:
        self._require()
        self.aliases[alias] = version
        self.moved.append((alias, version))

    def version(self, model: str, version: str) -> RegisteredVersion:
        self._require()
        return self.known[version]

    def read_text(self, run_id: str, path: str) -> str:
        raise NotFoundError(f"{path} of {run_id}")

    def _require(self) -> None:
        if self.away:
            raise UnavailableError("MLflow must answer. It is away.")


class Killed(BaseException):
    """The controller's process dies."""


class Mortal:
    """Passes calls on, and dies before or after the one that was chosen."""

    def __init__(self, inner: Any, fate: "Fate", names: tuple[str, ...]) -> None:
        self._inner, self._fate, self._names = inner, fate, names

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        if name not in self._names:
            return call

        def mortal(*args: Any, **named: Any) -> Any:
            self._fate.meet()
            answer = call(*args, **named)
            self._fate.meet()
            return answer

        return mortal


@dataclass
class Fate:
    """Counts the points at which a process may die; dies at one of them, once."""

    at: int | None = None
    met: int = 0

    def meet(self) -> None:
        self.met += 1
        if self.met == self.at:
            raise Killed


@dataclass
class World:
    folder: Path
    behaviours: dict[str, Behaviour]
    mode: ServingMode | None = None
    """KServe's, where it serves; a platform in memory without."""
    spec: ModelSpec = field(default_factory=lambda: parse_spec(SPEC))
    users: int = 20
    labels: bool = True
    fate: Fate = field(default_factory=Fate)
    now: datetime = T0
    kills: int = 0
    served: list[str | None] = field(default_factory=list)
    history: list[tuple[S, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = MemoryOutcomes()
        parts = (self.behaviours, self.log, lambda: self.now)
        self.platform = KServeMemory(self.mode, *parts) if self.mode else MemoryServing(*parts)
        self.registry = Aliases()
        self.registry.add("1", ALIAS_CHAMPION)
        self.state = SqlStateStore(f"sqlite:///{self.folder / 'state.db'}")
        self.random = np.random.default_rng(5)
        self.count = 0
        self.start()

    def start(self) -> None:
        """A new controller process: it knows what is stored, and nothing else."""
        state: Any = Mortal(self.state, self.fate, ("apply",))
        serving: Any = Mortal(self.platform, self.fate, ("apply",))
        registry: Any = Mortal(self.registry, self.fate, ("set_alias",))
        shadow = Shadow(state, self.log, self.platform, monotonic=lambda: 0.0)
        sources = Sources(serving, registry, self.log, self.platform, shadow)
        # Real time stands still here, so that every reading is taken in every tick.
        self.service = RolloutService(
            state, sources, Gatherer(sources, monotonic=lambda: 0.0, registry_seconds=0.0)
        )

    @property
    def latest(self) -> Rollout:
        kept = self.service.book.latest("loans")
        assert kept is not None
        return kept.rollout

    def tick(self) -> Ticked | None:
        """Ten minutes: users, labels, a round of the platform, a tick of the controller."""
        self.now += TICK
        self.platform.carry_out()
        for _ in range(self.users):
            self.count += 1
            x = float(self.random.random())
            taker = self.platform.request(f"r{self.count}", {"x": x})
            self.served.append(taker)
            if self.labels and taker is not None:
                flipped = self.random.random() < 0.05
                self.log.add_label(f"r{self.count}/0", float((x > 0.5) != flipped), self.now)
        ticked = None
        try:
            ticked = self.service.tick(self.spec, self.now)
        except Killed:
            self.kills += 1
            self.start()
        except HeliotropeError as error:
            self.told = str(error)
        kept = self.service.book.latest("loans")
        if kept is not None:
            place = (kept.rollout.state, kept.rollout.share)
            if not self.history or self.history[-1] != place:
                self.history.append(place)
        self.safe()
        return ticked

    def run(self, until: Callable[[], bool], most: int = 300) -> None:
        for _ in range(most):
            if until():
                return
            self.tick()
        raise AssertionError(f"not within {most} ticks: {self.history}, {self.latest.reason}")

    def safe(self) -> None:
        """What holds at any time: users are sent only to versions that are ready."""
        self.platform.away, away = False, self.platform.away
        seen = self.platform.observe("loans")
        self.platform.away = away
        for version in seen.weights if seen else ():
            if self.behaviours[version].ready_after < 0:
                raise AssertionError(f"users are sent to version {version}")

    def candidate(self, version: str = "2") -> None:
        """A first champion is up; then a version becomes candidate."""
        self.run(lambda: bool(self.history) and self.latest.concluded)
        self.registry.add(version, ALIAS_CANDIDATE)
        number = self.latest.number
        self.run(lambda: self.latest.number > number)

    def over(self) -> bool:
        return self.latest.concluded

    def ready(self, version: str) -> bool:
        seen = self.platform.observe("loans")
        there = seen.revision(version) if seen else None
        return there is not None and there.ready

    def order(self, order: Order) -> None:
        """A person's order, given again where the process died of it and it was not written."""
        for _ in range(2):
            try:
                self.service.order("loans", order, "kim", "", self.now)
            except Killed:
                self.kills += 1
                self.start()
            except UsageError:
                # It was written before the process died; the controller carries it out.
                assert self.kills
                return
            else:
                return

    @property
    def champion(self) -> str:
        return self.registry.aliases[ALIAS_CHAMPION]


BAD = 0.8
GOOD = 0.5


def good() -> dict[str, Behaviour]:
    return {"1": Behaviour(model(BAD)), "2": Behaviour(model(GOOD))}


@pytest.fixture(params=[None, *ServingMode], ids=lambda mode: mode or "memory")
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., World]]:
    made = []

    def make(behaviours: dict[str, Behaviour] | None = None, **more: Any) -> World:
        number = len(made)
        folder = tmp_path / str(number)
        folder.mkdir()
        made.append(World(folder, behaviours or good(), request.param, **more))
        return made[-1]

    yield make
    for one in made:
        one.state.close()
        if isinstance(one.platform, KServeMemory):
            one.platform.close()


WAY = [S.PENDING, S.SHADOW, S.CANARY, S.FULL, S.BAKING, S.PROMOTED]


def test_a_better_candidate_becomes_champion_and_every_step_is_in_the_log(
    world: Callable[..., World],
) -> None:
    here = world()
    here.candidate()
    here.history.clear()
    here.run(here.over)
    assert [state for state, _ in here.history] == WAY[1:] or [s for s, _ in here.history] == WAY
    assert here.champion == "2"
    assert here.platform._weights == {"2": 100}
    log = here.state.decisions("loans")
    assert first_broken(log) is None
    kinds = {kind: [d for d in log if d.kind is kind] for kind in DecisionKind}
    assert len(kinds[DecisionKind.ALIAS]) == 1
    told = " ".join(d.reason for d in kinds[DecisionKind.ROLLOUT])
    assert "pairs with labels (0/1 error" in told
    # Every share that was ever asked for was decided upon first.
    assert len(kinds[DecisionKind.TRAFFIC]) >= len({str(p.weights) for p in here.platform.applied})
    assert here.registry.moved == [(ALIAS_CHAMPION, "2")]


ENDS = ("promoted", "rolled back", "taken back", "superseded", "aborted", "forced")


def story(world: Callable[..., World], wanted: str, at: int | None) -> World:
    """A rollout to one of its ends, with a controller that dies at one point."""
    does = {**good(), "3": Behaviour(model(0.52))}
    if wanted in ("rolled back", "forced"):
        does["2"] = Behaviour(model(0.95))
    text = SPEC.replace("minimum_labels: 60", "minimum_labels: 30").replace("bake: 2h", "bake: 30m")
    here = world(does, spec=parse_spec(text), fate=Fate(at=at), users=15)
    here.candidate()
    if wanted == "taken back":
        here.run(lambda: here.latest.state is S.BAKING)
        here.behaviours["2"].fails = True
    elif wanted == "superseded":
        here.run(lambda: here.latest.live)
        here.registry.add("3", ALIAS_CANDIDATE)
        here.run(lambda: here.latest.candidate == "3")
    elif wanted == "aborted":
        here.run(lambda: here.latest.live)
        here.order(Order.ABORT)
    elif wanted == "forced":
        here.run(lambda: here.latest.state is S.SHADOW and here.ready("2"))
        here.order(Order.PROMOTE)
    here.run(here.over)
    return here


def endings(here: World) -> tuple[object, ...]:
    return here.latest.state, here.champion, here.platform._weights


def check_killed_at(
    world: Callable[..., World], wanted: str, points: range, end: tuple[object, ...]
) -> None:
    for point in points:
        killed = story(world, wanted, point)
        assert killed.kills == 1, point
        assert endings(killed) == end, point
        log = killed.state.decisions("loans")
        assert first_broken(log) is None
        keys = [decision.key for decision in log]
        assert len(set(keys)) == len(keys), point
        places = [WAY.index(s) for s, _ in killed.history if s in WAY]
        # Rollouts of others come before: the first champion's own, and one that was superseded.
        falls = [(a, b) for a, b in pairwise(places) if b < a]
        assert len(falls) <= (2 if wanted == "superseded" else 1), (point, killed.history)


@pytest.mark.parametrize("wanted", ENDS)
def test_a_controller_killed_at_some_points_comes_to_the_same_end(
    world: Callable[..., World], wanted: str
) -> None:
    whole = story(world, wanted, None)
    # A prime step meets both sides of writes of every kind.
    check_killed_at(world, wanted, range(1, whole.fate.met + 1, 11), endings(whole))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("wanted", ENDS)
def test_a_controller_killed_at_any_point_comes_to_the_same_end(
    world: Callable[..., World], wanted: str
) -> None:
    """Before and after every write of state, plan and alias, one point a run."""
    whole = story(world, wanted, None)
    assert whole.fate.met > 20
    check_killed_at(world, wanted, range(1, whole.fate.met + 1), endings(whole))


FAULTS = {
    "crashes": Behaviour(model(GOOD), crashes_after=3),
    "never gets ready": Behaviour(model(GOOD), ready_after=-1),
    "hangs": Behaviour(model(GOOD), hangs=True),
    "answers 500": Behaviour(model(GOOD), fails=True),
    "answers NaN": Behaviour(lambda _: math.nan),
    "is slow": Behaviour(model(GOOD), seconds=0.3),
    "differs in schema": Behaviour(model(GOOD), refuses=True),
    "is worse": Behaviour(model(0.95)),
    "is the same": Behaviour(model(BAD)),
}


@pytest.mark.parametrize("shadow", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_candidate_never_becomes_champion(
    world: Callable[..., World], fault: str, shadow: bool
) -> None:
    text = SPEC if shadow else SPEC.replace("shadow: {", "shadow: {enabled: false, ")
    does = FAULTS[fault]
    if not shadow and fault == "differs in schema":
        does = Behaviour(model(GOOD), fails=True)
    here = world({"1": Behaviour(model(BAD)), "2": does}, spec=parse_spec(text))
    here.candidate()
    before = len(here.served)
    here.run(here.over)
    assert here.latest.state is S.ROLLED_BACK, here.latest.reason
    assert here.champion == "1"
    assert here.platform._weights == {"1": 100}
    assert all(moved[1] == "1" for moved in here.registry.moved)
    if shadow:
        # It never answered a user: the shadow was enough to see it.
        assert set(here.served[before:]) == {"1"}


def test_a_shadow_is_judged_on_what_came_before_it_and_after_its_training(
    world: Callable[..., World],
) -> None:
    here = world(users=40)
    here.run(lambda: len(here.served) > 400)
    here.labels = False
    here.registry.add("2", ALIAS_CANDIDATE)
    here.run(lambda: here.latest.candidate == "2" and here.latest.state is S.CANARY, most=12)
    # No label came since it was opened: the verdict is of the backfill alone.
    assert "pairs with labels" in here.latest.reason
    assert here.platform.asked_again >= 60


def test_nothing_is_asked_twice_by_one_process_and_pairs_count_once_over_restarts(
    world: Callable[..., World],
) -> None:
    here = world(users=15)
    here.labels = False
    here.candidate()
    for number in range(20):
        if number % 4 == 0:
            here.start()
        here.tick()
    assert here.latest.state is S.SHADOW
    logged = [k for k in here.log._predictions if k[1] == "2"]
    assert here.platform.asked_again == len(logged)


def test_a_breach_after_promotion_sends_users_and_alias_back_in_one_tick(
    world: Callable[..., World],
) -> None:
    here = world()
    here.candidate()
    here.run(lambda: here.latest.state is S.BAKING)
    here.tick()
    assert here.champion == "2"
    here.behaviours["2"].fails = True
    here.tick()
    assert here.latest.state is S.ROLLED_BACK
    assert here.champion == "1"
    assert here.platform.plan("loans").weights == {"1": 100}
    here.platform.carry_out()
    assert here.platform.request("one-more", {"x": 0.1}) == "1"


def test_a_rollback_needs_no_registry_and_no_labels(world: Callable[..., World]) -> None:
    here = world()
    here.candidate()
    here.run(lambda: here.latest.state is S.CANARY)
    here.tick()
    here.registry.away = here.log.away = True
    here.behaviours["2"].fails = True
    here.tick()
    assert here.latest.state is S.ROLLED_BACK
    assert here.platform.plan("loans").weights == {"1": 100}
    assert "MLflow must answer" in here.told
    here.registry.away = here.log.away = False
    here.run(here.over)
    assert here.champion == "1"


def test_what_cannot_be_read_moves_nothing(world: Callable[..., World]) -> None:
    here = world()
    here.candidate()
    here.run(lambda: here.latest.state is S.SHADOW)
    here.log.away = True
    for _ in range(20):
        here.tick()
    assert here.latest.state is S.SHADOW
    judged = here.service.book.judgement("loans")
    assert judged is not None
    assert judged.verdict.value == "ERROR"
    assert set(judged.evidence.broken) == {"replay", "outcomes"}
    here.log.away = False
    here.run(here.over)
    assert here.champion == "2"


def test_a_query_that_breaks_is_an_error_and_not_the_end(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world()
    here.candidate()

    def broken(*_: Any, **__: Any) -> Any:
        raise TypeError("ufunc 'bitwise_and' not supported")

    with monkeypatch.context() as patched:
        patched.setattr(here.log, "pairs", broken)
        for _ in range(8):
            here.tick()
    assert here.latest.state is S.SHADOW
    judged = here.service.book.judgement("loans")
    assert judged is not None
    assert "TypeError: ufunc" in judged.evidence.broken["outcomes"]
    here.run(here.over)
    assert here.champion == "2"


def test_the_newer_of_two_candidates_supersedes_and_is_rolled_out(
    world: Callable[..., World],
) -> None:
    here = world({**good(), "3": Behaviour(model(0.52))})
    here.candidate("2")
    here.run(lambda: here.latest.state is S.CANARY)
    here.registry.add("3", ALIAS_CANDIDATE)
    here.run(lambda: here.latest.number == 3)
    ended = here.service.book.all("loans")[1].rollout
    assert (ended.state, ended.candidate) == (S.ABORTED, "2")
    assert "superseded by version 3" in ended.reason
    here.run(here.over)
    assert here.champion == "3"


def test_people_pause_resume_abort_and_promote_under_their_names(
    world: Callable[..., World],
) -> None:
    here = world()
    here.candidate()
    here.run(lambda: here.latest.state is S.CANARY)
    here.service.order("loans", Order.PAUSE, "kim", "holiday", here.now)
    for _ in range(30):
        here.tick()
    assert (here.latest.state, here.latest.share) == (S.PAUSED, 50)
    here.service.order("loans", Order.RESUME, "kim", "", here.now)
    here.service.order("loans", Order.ABORT, "ada", "wrong features", here.now)
    assert here.platform.plan("loans").weights == {"1": 100}
    here.run(here.over)
    orders = here.state.decisions("loans", kinds=[DecisionKind.PERSON])
    assert [d.actor for d in orders] == ["person:kim", "person:kim", "person:ada"]
    assert "wrong features" in orders[-1].reason


def test_a_promotion_by_force_moves_everything_at_once_and_still_bakes(
    world: Callable[..., World],
) -> None:
    here = world({"1": Behaviour(model(BAD)), "2": Behaviour(model(BAD))})
    here.candidate()
    here.run(lambda: here.latest.state is S.SHADOW)
    made = here.service.order("loans", Order.PROMOTE, "kim", "I know", here.now)
    assert (made.state, made.forced_by, here.champion) == (S.BAKING, "kim", "2")
    here.run(here.over)
    assert here.latest.state is S.PROMOTED


@pytest.mark.parametrize("days", [300, -300])
def test_a_jump_of_the_clock_neither_promotes_nor_rolls_back(
    world: Callable[..., World], days: int
) -> None:
    here = world({"1": Behaviour(model(BAD)), "2": Behaviour(model(GOOD))})
    here.candidate()
    here.run(lambda: here.latest.state is S.CANARY)
    here.users = 0
    here.now += timedelta(days=days)
    here.tick()
    assert here.latest.live
    assert here.champion == "1"
    here.users = 20
    here.run(here.over)
    assert here.champion == "2", here.latest.reason


def test_without_the_platform_a_rollout_waits_and_says_so(world: Callable[..., World]) -> None:
    here = world()
    here.candidate()
    here.platform.away = True
    for _ in range(5):
        here.tick()
    assert here.latest.state is S.PENDING
    assert "away" in here.told
    here.platform.away = False
    here.run(here.over)
    assert here.champion == "2"


@pytest.mark.parametrize("alias", ["not moved yet", "moved"])
def test_a_breach_while_it_is_being_promoted_takes_it_back(
    world: Callable[..., World], alias: str
) -> None:
    """The controller dies amid the promotion, and when it is back the candidate is broken."""
    here = world()
    here.candidate()
    move, died = here.registry.set_alias, []

    def dies(model_: str, name: str, version: str) -> None:
        if version == "2" and not died:
            if alias == "moved":
                move(model_, name, version)
            died.append(version)
            here.behaviours["2"].fails = True
            raise Killed
        move(model_, name, version)

    here.registry.set_alias = dies  # type: ignore[method-assign]
    here.run(lambda: bool(died))
    assert here.latest.state is S.BAKING
    assert here.champion == ("2" if alias == "moved" else "1")
    here.run(here.over)
    assert here.latest.state is S.ROLLED_BACK, here.latest.reason
    assert here.champion == "1"
    assert here.platform._weights == {"1": 100}
    assert first_broken(here.state.decisions("loans")) is None


def test_a_breach_while_the_registry_is_away_amid_the_promotion_never_crowns_it(
    world: Callable[..., World],
) -> None:
    here = world()
    here.candidate()
    here.run(lambda: here.latest.state is S.FULL)
    here.registry.away = True
    here.run(lambda: here.latest.state is S.BAKING)
    assert here.champion == "1"
    here.behaviours["2"].fails = True
    here.tick()
    assert here.latest.state is S.ROLLED_BACK
    assert here.platform.plan("loans").weights == {"1": 100}
    here.registry.away = False
    here.run(here.over)
    assert here.registry.moved == []


def test_a_flood_of_late_and_repeated_labels_moves_one_step_at_a_time(
    world: Callable[..., World],
) -> None:
    here = world(users=40)
    here.labels = False
    here.candidate()
    for _ in range(30):
        here.tick()
    assert here.latest.state is S.SHADOW
    here.history.clear()
    told = {p.prediction_id: p.features["x"] for p in here.log._predictions.values()}
    assert len(told) > 1000
    for name, x in told.items():
        right = (x > 0.5) != (here.random.random() < 0.05)
        # A wrong one first, which the last received corrects; and that one over and over.
        here.log.add_label(name, float(not right), here.now - TICK)
        for _ in range(5):
            here.log.add_label(name, float(right), here.now)
    here.run(here.over)
    states = [state for state, _ in here.history]
    assert [s for s in states if s in WAY] == [s for s in WAY[1:] if s in states]
    assert {S.CANARY, S.FULL, S.BAKING, S.PROMOTED} <= set(states)
    assert here.champion == "2"
    judged = here.service.book.judgement("loans")
    assert judged is not None
    seen = judged.evidence.comparison
    assert seen is not None
    assert seen.labelled <= len(told)
