"""Which alarms were true, how soon a change was called, and when all was well again: hindsight."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np

from heliotrope.domain import bootstrap
from heliotrope.domain.backtest.history import History, VersionAnswers, moment, stamp
from heliotrope.domain.backtest.report import AlarmEpisode, DayPoint, Detection
from heliotrope.domain.metrics import ROW_MEANS, Answers
from heliotrope.domain.outcomes import Mask
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.spec import ModelSpec
from heliotrope.spec.metrics import METRICS
from heliotrope.vocabulary import Task

RESAMPLES = 200
"""For the interval of a window."""
TOGETHER = 2
"""Windows in a row that make a fall, or its end: one alone may be chance."""


@dataclass(frozen=True)
class Level:
    """What is demanded."""

    accepted: float
    fall: float
    greater_is_better: bool

    def missed(self, value: float, low: float, high: float) -> bool:
        """As the door to retraining says it (`Level.missed`)."""
        if not all(map(math.isfinite, (value, low, high))):
            return False
        if self.greater_is_better:
            return value < self.accepted - self.fall and high < self.accepted
        return value > self.accepted + self.fall and low > self.accepted


@dataclass(frozen=True, eq=False)
class Answered:
    """What users were answered: a row of the history each."""

    rows: np.ndarray
    """Places in the history, rising."""
    says: VersionAnswers
    """[rows] of those rows."""


def graded(spec: ModelSpec, history: History, answered: Answered, chosen: Mask) -> Answers | None:
    """Answers beside the labels that ever came; None where there are none."""
    label = history.label[answered.rows]
    known = chosen & ~np.isnan(label) & np.isfinite(answered.says.score)
    if not known.any():
        return None
    truth, score = label[known], answered.says.score[known]
    if spec.task is Task.REGRESSION:
        return Answers.regression(truth, score)
    called = answered.says.called[known]
    if answered.says.scores is not None:
        return Answers.multiclass(truth, answered.says.scores[known], called)
    return Answers.binary(truth, score, decisions=called)


def points(
    spec: ModelSpec, history: History, answered: Answered, level: Level, seed: int
) -> tuple[DayPoint, ...]:
    """The primary metric, window by window."""
    plan, primary = TruthPlan.of(spec), spec.metrics.primary
    found = []
    if not len(answered.rows):
        return ()
    at = history.at[answered.rows]
    first, last = plan.window_of(moment(at[0])), plan.window_of(moment(at[-1]))
    for window in range(first, last + 1):
        start, end = plan.window_start(window), plan.window_start(window + 1)
        inside = np.asarray((at >= stamp(start)) & (at < stamp(end)))
        answers = graded(spec, history, answered, inside)
        if answers is None:
            continue
        rng = np.random.default_rng([seed, window % 2**31])
        draws = bootstrap.resample({"": answers}, {"": [primary]}, rng, RESAMPLES)[""][primary]
        rows = answers.rows if primary in ROW_MEANS else answers.rarest
        value = bootstrap.interval(answers.values([primary])[primary], draws, rows)
        found.append(
            DayPoint(
                start=start, rows=answers.rows, value=value.value, low=value.low, high=value.high,
                missed=level.missed(value.value, value.low, value.high),
            )
        )  # fmt: skip
    return tuple(found)


def level_of(spec: ModelSpec, accepted: float) -> Level:
    """What a spec demands of its primary metric."""
    better = METRICS[spec.metrics.primary].greater_is_better
    return Level(accepted, spec.monitoring.fall, better)


def changes_seen(seen: Sequence[DayPoint]) -> tuple[datetime, ...]:
    """When falls began that lasted, of a model that was left as it was."""
    found, run = [], 0
    for place, point in enumerate(seen):
        run = run + 1 if point.missed else 0
        if run == TOGETHER:
            found.append(seen[place - TOGETHER + 1].start)
    return tuple(found)


def recovered(
    seen: Sequence[DayPoint], change: datetime, until: datetime
) -> tuple[bool, datetime | None]:
    """Whether the target was missed after a change, and when it was met again.

    Args:
        seen: windows, oldest first.
        change: when the world changed.
        until: the next change.
    """
    after = [point for point in seen if change <= point.start < until]
    missed = [place for place, point in enumerate(after) if point.missed]
    if not missed:
        return False, None
    for place in range(missed[0], len(after) - TOGETHER + 1):
        if not any(point.missed for point in after[place : place + TOGETHER]):
            return True, after[place].start
    return True, None


@dataclass(frozen=True)
class Hindsight:
    """What is known afterwards of one policy's time."""

    changes: tuple[datetime, ...]
    known: bool
    """Whether the changes were given, rather than seen."""
    seen: tuple[DayPoint, ...]
    promotions: tuple[datetime, ...]
    window: timedelta
    delay: timedelta
    """Of labels."""

    def true(self, raised: datetime) -> bool:
        """Whether an alarm that was raised at a time had a cause.

        With known changes: one has happened and no model was promoted in answer to it yet, or so
        lately that the labels that ring are of the model before. In any case: a window that the
        alarm may rest on missed the target.
        """
        rests_from = raised - self.delay - TOGETHER * self.window
        if any(p.missed and rests_from - self.window < p.start <= raised for p in self.seen):
            return True
        past = [change for change in self.changes if change <= raised]
        if not self.known or not past:
            return False
        answer = next((at for at in self.promotions if at >= past[-1]), None)
        return answer is None or raised <= answer + self.delay + self.window


def detections(
    history: History, sight: Hindsight, alarms: Sequence[AlarmEpisode], end: datetime
) -> tuple[Detection, ...]:
    """How each change was called and answered."""
    found = []
    for change, until in pairwise((*sight.changes, end)):
        called = next((a.raised for a in alarms if a.true and change <= a.raised <= until), None)
        harmed, back = recovered(sight.seen, change, until)
        found.append(
            Detection(
                change=change,
                called=called,
                labels=None if called is None else labels_between(history, change, called),
                recovered=back,
                harmed=harmed,
            )
        )
    return tuple(found)


def labels_between(history: History, change: datetime, called: datetime) -> int:
    """Labels that had come by one time, of rows that happened since another."""
    rows = (history.at >= stamp(change)) & (history.told <= stamp(called))
    return int((rows & ~np.isnan(history.label)).sum())
