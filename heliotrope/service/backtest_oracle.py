"""The policy that knows when the world changed: what there is to win by noticing sooner."""

import time
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from heliotrope.domain.backtest import judging
from heliotrope.domain.backtest.history import History, VersionAnswers, moment, stamp
from heliotrope.domain.backtest.judging import Answered
from heliotrope.domain.backtest.policy import Policy
from heliotrope.errors import DataFault
from heliotrope.service.backtest import Played, Span, World, first_champion
from heliotrope.service.backtest_training import Shelf, TrainingPlace
from heliotrope.spec import ModelSpec
from heliotrope.spec.metrics import METRICS
from heliotrope.vocabulary import ONNX_FILE

SIZES = (300, 600, 1200, 2400, 4800, 9600)
"""Final rows since a change at which it trains anew."""
_JUDGE = 50
"""Rows that it holds out at least; it need not convince anybody."""


class OracleWorld(World, TrainingPlace, Protocol):
    """What it lives in."""

    @property
    def shelf(self) -> Shelf:
        """Trained models."""
        ...

    def says(self, onnx: Path) -> VersionAnswers:
        """What a model says to every row."""
        ...

    def first_says(self) -> VersionAnswers:
        """The same of the first model."""
        ...


def play_oracle(
    policy: Policy, world: OracleWorld, span: Span, changes: Sequence[datetime]
) -> Played:
    """Train at each size since each change, and answer by whichever model is best from then on.

    Which is best is known in hindsight, so it is a bound, not a policy that could be run.

    Raises:
        NotAccepted: the first model did not pass its own gate.
    """
    began = time.monotonic()
    spec, history = policy.spec, world.history
    accepted, trained_on = first_champion(spec, world, span.start)
    models = [(span.start, world.first_says())]
    for change, until in pairwise((*changes, span.end)):
        models += _trained(spec, world, change, until)
    inside = (history.at > stamp(span.start)) & (history.at <= stamp(span.end))
    rows = np.flatnonzero(inside)
    answered = Answered(rows, _best(spec, history, rows, models))
    seconds = time.monotonic() - began
    return Played(policy, answered, (), accepted, trained_on, seconds, len(models) - 1)


def _trained(
    spec: ModelSpec, world: OracleWorld, change: datetime, until: datetime
) -> list[tuple[datetime, VersionAnswers]]:
    few = spec.model_copy(update={"gates": spec.gates.model_copy(update={"minimum_rows": _JUDGE})})
    found = []
    for at in final_at(world.history, spec, change):
        if at >= until:
            break
        ref = world.final_rows(at)
        try:
            folder, _ = world.shelf.trained(few, ref, world.rows_of(ref, few), change)
        except DataFault:
            # So few rows may lack a class; there will be more.
            continue
        found.append((at, world.says(folder / ONNX_FILE)))
    return found


def final_at(history: History, spec: ModelSpec, change: datetime) -> list[datetime]:
    """When each of `SIZES` rows since a change are final, as far as there are so many."""
    late = np.timedelta64(round(spec.label.delay.total_seconds() * 1e6), "us")
    since = (history.at >= stamp(change)) & ~np.isnan(history.label)
    final = np.sort(np.maximum(history.at[since] + late, history.told[since]))
    return [moment(final[size - 1]) for size in SIZES if size <= len(final)]


def _best(
    spec: ModelSpec,
    history: History,
    rows: np.ndarray,
    models: Sequence[tuple[datetime, VersionAnswers]],
) -> VersionAnswers:
    called, score = np.zeros(len(rows), np.int32), np.full(len(rows), np.nan)
    first = models[0][1]
    scores = None if first.scores is None else np.full((len(rows), first.scores.shape[1]), np.nan)
    bounds = [*(at for at, _ in models), None]
    for place, since in enumerate(bounds[:-1]):
        until = bounds[place + 1]
        mine = history.at[rows] > stamp(since) if since else np.ones(len(rows), bool)
        if until is not None:
            mine &= history.at[rows] <= stamp(until)
        if not mine.any():
            continue
        says = max(
            (model for _, model in models[: place + 1]),
            key=lambda model: _merit(spec, history, rows[mine], model),
        )
        called[mine], score[mine] = says.called[rows[mine]], says.score[rows[mine]]
        if scores is not None and says.scores is not None:
            scores[mine] = says.scores[rows[mine]]
    return VersionAnswers(called, score, scores)


def _merit(spec: ModelSpec, history: History, rows: np.ndarray, says: VersionAnswers) -> float:
    part = VersionAnswers(
        says.called[rows], says.score[rows], None if says.scores is None else says.scores[rows]
    )
    answers = judging.graded(spec, history, Answered(rows, part), np.ones(len(rows), bool))
    primary = spec.metrics.primary
    value = float("nan") if answers is None else answers.values([primary])[primary]
    if np.isnan(value):
        return -np.inf
    return value if METRICS[primary].greater_is_better else -value
