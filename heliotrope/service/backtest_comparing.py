"""All policies on one history, one after the other, and what came of them side by side."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np

from heliotrope.domain.backtest import judging
from heliotrope.domain.backtest.history import History, moment, stamp
from heliotrope.domain.backtest.policy import Policy, PolicyKind
from heliotrope.domain.backtest.report import BacktestReport, DayPoint, PolicyResult
from heliotrope.errors import DataFault, UsageError
from heliotrope.service.backtest import Played, Span, play
from heliotrope.service.backtest_measuring import level_of, measured
from heliotrope.service.backtest_oracle import OracleWorld, play_oracle
from heliotrope.spec import ModelSpec

KNOWN = "the changes that were given"
SEEN = (
    "hindsight: where the first model, left as it was, missed the accepted level in two windows in "
    "a row, once all labels had come"
)
MakeWorld = Callable[[ModelSpec], AbstractContextManager[OracleWorld]]
"""Of a policy's spec; gone with all it wrote when it is left."""


class Watcher(Protocol):
    """Told how a comparison goes on."""

    def begins(self, policy: Policy, rows: int) -> None:
        """A policy begins on so many rows."""
        ...

    def at(self, policy: Policy, now: datetime, rows: int) -> None:
        """It has come so far, with so many rows more."""
        ...

    def ends(self, policy: Policy) -> None:
        """It is over."""
        ...


@dataclass(frozen=True)
class Question:
    """What is to be compared.

    Args:
        spec: as the person gave it; all policies are measured by it.
        settings: policies by spec.
        references: what they are compared with; `never` among them.
        span: the simulated time.
        changes: when the world changed; None where that is not known.
    """

    spec: ModelSpec
    settings: Sequence[Policy]
    references: Sequence[Policy]
    span: Span
    changes: tuple[datetime, ...] | None

    def __post_init__(self) -> None:
        """Refuse what could not be judged."""
        window, tick = self.spec.monitoring.window, self.span.tick
        for policy in self.settings:
            window = min(window, policy.spec.monitoring.window)
        if tick > window:
            raise UsageError(
                f"--tick must be at most a monitoring window, {window}, since each is judged once. "
                f"Got {tick}."
            )
        if self.span.end - self.span.start < 2 * self.spec.monitoring.window:
            raise UsageError(
                f"the history must go on for two monitoring windows, "
                f"{2 * self.spec.monitoring.window}, after the start. "
                f"Got {self.span.end - self.span.start}."
            )
        for change in self.changes or ():
            if not self.span.start <= change <= self.span.end:
                raise UsageError(
                    f"--change must lie within the simulation, {self.span.start:%Y-%m-%d %H:%M} to "
                    f"{self.span.end:%Y-%m-%d %H:%M}. Got {change:%Y-%m-%d %H:%M}."
                )


def compare(asked: Question, history: History, make: MakeWorld, watcher: Watcher) -> BacktestReport:
    """Play every policy and measure it.

    The model that is left as it was comes first, since hindsight takes the changes from it.

    Raises:
        DataFault: no row of the simulation has a label.
        NotAccepted: the first model did not pass its own gate.
        UsageError: a spec's trainer is wrong.
    """
    inside = (history.at > stamp(asked.span.start)) & (history.at <= stamp(asked.span.end))
    rows, unlabelled = int(inside.sum()), int(np.isnan(history.label[inside]).sum())
    if rows == unlabelled:
        raise DataFault(
            f"{history.source} must have labels after the start, "
            f"{asked.span.start:%Y-%m-%d %H:%M}, or nothing can be judged. None of the {rows:,} "
            "rows since then has one."
        )
    never = next(p for p in asked.references if p.kind is PolicyKind.NEVER)
    base, seen = _played(never, asked, history, make, watcher, rows, ())
    changes = asked.changes if asked.changes is not None else judging.changes_seen(seen)
    known = asked.changes is not None

    def result(played: Played, windows: Sequence[DayPoint]) -> PolicyResult:
        return measured(asked.spec, history, played, windows, changes, known, asked.span.end)

    results = []
    for policy in (*asked.settings, *asked.references):
        if policy is never:
            results.append(result(base, seen))
            continue
        results.append(result(*_played(policy, asked, history, make, watcher, rows, changes)))
    spec = asked.spec
    return BacktestReport(
        model=spec.name,
        primary=spec.metrics.primary,
        source=history.source,
        rows=rows,
        unlabelled=unlabelled,
        trained_on=base.trained_on,
        refused=history.refused,
        start=asked.span.start,
        end=moment(stamp(asked.span.end)),
        tick=asked.span.tick,
        seed=spec.trainer.seed,
        labels_come=history.labels_come,
        accepted=base.accepted,
        fall=spec.monitoring.fall,
        changes=tuple(changes),
        judged_by=KNOWN if known else SEEN,
        policies=tuple(results),
    )


def _played(
    policy: Policy,
    asked: Question,
    history: History,
    make: MakeWorld,
    watcher: Watcher,
    rows: int,
    changes: Sequence[datetime],
) -> tuple[Played, tuple[DayPoint, ...]]:
    watcher.begins(policy, rows)
    with make(policy.spec) as world:
        if policy.kind is PolicyKind.ORACLE:
            played = play_oracle(policy, world, asked.span, changes)
        else:
            played = play(
                policy, world, asked.span, lambda now, more: watcher.at(policy, now, more)
            )
    watcher.ends(policy)
    level = level_of(asked.spec, played)
    seen = judging.points(asked.spec, history, played.answered, level, asked.spec.trainer.seed)
    return played, seen
