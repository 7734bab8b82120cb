"""History replayed under a policy: the controller's own duties, tick by tick, on a held clock.

Nothing is decided here. The duties are the live ones; what they read comes from ports that know
nothing that had not come by the clock.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from heliotrope.clock import HeldClock
from heliotrope.domain.backtest.history import History
from heliotrope.domain.backtest.judging import Answered
from heliotrope.domain.backtest.policy import Policy, PolicyKind
from heliotrope.domain.decisions import Decision
from heliotrope.domain.evaluation import Evaluation
from heliotrope.domain.lineage import Lineage
from heliotrope.domain.truth.documents import WindowTruth
from heliotrope.errors import NotAccepted
from heliotrope.ports.runs import RunLauncher
from heliotrope.service.alarms import AccuracyDuty, AlarmTools
from heliotrope.service.controller import Duty
from heliotrope.service.drift_duty import DiagnosisDuty, DriftDuty
from heliotrope.service.drift_reference import MonitoringTools
from heliotrope.service.retraining import RetrainingDoor
from heliotrope.service.retraining_duty import RetrainingDuty
from heliotrope.service.retraining_facts import RetrainingTools
from heliotrope.service.rollout import RolloutService
from heliotrope.service.rollout_duty import RolloutDuty
from heliotrope.service.training_launch import TRAINING
from heliotrope.spec import ModelSpec
from heliotrope.telemetry.board import Board
from heliotrope.telemetry.controller_metrics import CONTROLLER_METRICS
from heliotrope.vocabulary import (
    ALIAS_CHAMPION,
    ARTIFACT_EVALUATION_FILE,
    ARTIFACT_LINEAGE,
    Outcome,
)

FIRST_RUN = "first"
_SETTLING = 5
"""Rounds within which the first champion is served; one to start it, one to see it."""

Show = Callable[[datetime, int], None]
"""Told after each tick: the time, and how many rows were answered."""


class World(MonitoringTools, Protocol):
    """What a policy lives in."""

    @property
    def history(self) -> History:
        """What is replayed."""
        ...

    @property
    def clock(self) -> HeldClock:
        """Moved by the simulation alone."""
        ...

    @property
    def runs(self) -> RunLauncher:
        """Trainings."""
        ...

    @property
    def rollouts(self) -> RolloutService:
        """Moves traffic and alias."""
        ...

    def windows(self, now: datetime) -> Sequence[WindowTruth]:
        """The truth as of the clock."""
        ...

    def play(self, since: datetime, until: datetime) -> int:
        """Let the users of a time come."""
        ...

    def answered(self) -> Answered:
        """What they were answered."""
        ...


@dataclass(frozen=True)
class Span:
    """The simulated time."""

    start: datetime
    end: datetime
    tick: timedelta

    def times(self) -> Sequence[datetime]:
        """Ends of the ticks, rising."""
        count = -(-(self.end - self.start) // self.tick)
        return [min(self.start + n * self.tick, self.end) for n in range(1, count + 1)]


@dataclass(frozen=True, eq=False)
class Played:
    """What became of a policy."""

    policy: Policy
    answered: Answered
    decisions: Sequence[Decision]
    accepted: float
    trained_on: int
    seconds: float
    trainings: int = 0
    """Of a policy that writes no log."""


def default_tick(spec: ModelSpec) -> timedelta:
    """Between two looks of the simulated controller: the live one looks each second, and its
    policies count in windows, so an eighth of one is soon enough; a bake is looked at four times.
    """
    tick = spec.monitoring.window / 8
    return min(tick, spec.rollout.bake / 4) if spec.rollout.bake else tick


def play(policy: Policy, world: World, span: Span, show: Show = lambda *_: None) -> Played:
    """Replay a history under a policy.

    Raises:
        NotAccepted: the first model did not pass its own gate.
        UsageError: the spec's trainer is wrong.
    """
    began = time.monotonic()
    board = Board(CONTROLLER_METRICS)
    accepted, trained_on = first_champion(policy.spec, world, span.start)
    duties = _duties(policy, world, board)
    for _ in range(_SETTLING):
        duties[-1].run(span.start)
        world.play(span.start, span.start)
    before = span.start
    for now in span.times():
        world.clock.move(now)
        rows = world.play(before, now)
        for duty in duties:
            duty.run(now)
        show(now, rows)
        before = now
    decisions = world.state.decisions(policy.spec.name)
    seconds = time.monotonic() - began
    return Played(policy, world.answered(), decisions, accepted, trained_on, seconds)


def first_champion(spec: ModelSpec, world: World, start: datetime) -> tuple[float, int]:
    """Train what is live at the start; answers its accepted level and how many rows it learnt."""
    arguments = {"cause": "the first model", "since": ""}
    world.runs.start(TRAINING, arguments, FIRST_RUN)
    ended = world.runs.log(FIRST_RUN).outcome()
    if ended is None or ended.outcome is not Outcome.REGISTERED:
        why = "no outcome" if ended is None else ended.reason
        raise NotAccepted(
            f"the first model, trained on what was final at {start:%Y-%m-%d %H:%M}, must pass its "
            f"gate; begin later (--start) or give more history. It did not: {why}"
        )
    champion = world.registry.by_alias(spec.name, ALIAS_CHAMPION)
    if champion is None:
        raise AssertionError("the first version is champion")
    text = world.registry.read_text(champion.run_id, ARTIFACT_EVALUATION_FILE)
    evaluation = Evaluation.from_json(text)
    lineage = Lineage.from_json(world.registry.read_text(champion.run_id, ARTIFACT_LINEAGE))
    return evaluation.metrics[spec.metrics.primary].value, lineage.snapshot.rows


def _duties(policy: Policy, world: World, board: Board) -> list[Duty]:
    """The controller's, in its order; the rollout last, since the first champion needs it alone."""
    spec = policy.spec
    registry = lambda: world.registry  # noqa: E731 - a port is asked for anew
    alarms = AlarmTools(world.state, world.outcomes, world.windows, registry)
    tools = RetrainingTools(world.state, registry, world.runs, world.windows)
    door = RetrainingDoor(spec, tools)
    accuracy = AccuracyDuty(spec, alarms, board)
    rollout = RolloutDuty(spec, lambda: world.rollouts, lambda _: None, board)
    if policy.kind is PolicyKind.NEVER:
        return [accuracy, rollout]
    retraining = RetrainingDuty(spec, tools, board)
    if policy.kind is PolicyKind.SCHEDULED:
        # Drift is judged all the same: it finds the broken columns that nothing may learn from.
        return [accuracy, DriftDuty(spec, world, board), retraining, rollout]
    return [
        accuracy,
        DriftDuty(spec, world, board, door),
        DiagnosisDuty(spec, world, door),
        retraining,
        rollout,
    ]
