"""From what a policy did to what is tabulated."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from heliotrope.domain.backtest import judging
from heliotrope.domain.backtest.history import History, stamp
from heliotrope.domain.backtest.judging import Hindsight, Level
from heliotrope.domain.backtest.report import AlarmEpisode, DayPoint, Event, PolicyResult
from heliotrope.domain.decisions import Decision, DecisionKind
from heliotrope.domain.outcomes import Mask
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.service.backtest import Played
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Outcome, Task

_TAKEN_BACK = (RolloutState.ROLLED_BACK, RolloutState.ABORTED)
_SHOWN = {
    DecisionKind.ALARM: "alarm",
    DecisionKind.DIAGNOSIS: "diagnosis",
    DecisionKind.TRIGGER: "trigger",
    DecisionKind.RUN: "run",
    DecisionKind.ALIAS: "promotion",
}


def measured(
    spec: ModelSpec,
    history: History,
    played: Played,
    seen: Sequence[DayPoint],
    changes: Sequence[datetime],
    known: bool,
    end: datetime,
) -> PolicyResult:
    """One policy's result.

    Args:
        spec: as it was given, so that all policies are measured by one.
        history: that was replayed.
        played: what became of it.
        seen: its windows, in hindsight.
        changes: when the world changed.
        known: whether that was given.
        end: of the simulation.
    """
    log = played.decisions
    promotions = promoted_at(log)
    sight = Hindsight(
        tuple(changes), known, tuple(seen), promotions, spec.monitoring.window, spec.label.delay
    )
    alarms = tuple(one.model_copy(update={"true": sight.true(one.raised)}) for one in episodes(log))
    runs = [d for d in log if d.kind is DecisionKind.RUN]
    everything = np.ones(len(played.answered.rows), bool)
    value, wrong = _total(spec, history, played, everything)
    after = None
    if changes:
        since = np.asarray(history.at[played.answered.rows] >= stamp(changes[0]))
        after = _total(spec, history, played, since)[0]
    return PolicyResult(
        name=played.policy.name,
        kind=played.policy.kind,
        alarms=alarms,
        detections=judging.detections(history, sight, alarms, end),
        drift_calls=sum(
            d.kind is DecisionKind.VERDICT and bool(d.evidence.get("called")) for d in log
        ),
        retrainings=len(runs) + played.trainings,
        registered=sum(d.evidence.get("outcome") == Outcome.REGISTERED for d in runs)
        + played.trainings,
        promotions=len(promotions),
        rollbacks=sum(_taken_back(d) for d in log),
        value=value,
        value_after=after,
        wrong=wrong,
        missed_windows=sum(point.missed for point in seen),
        points=tuple(seen),
        events=tuple(_events(log)),
        seconds=played.seconds,
    )


def level_of(spec: ModelSpec, played: Played) -> Level:
    """What a policy's first model was accepted at."""
    return judging.level_of(spec, played.accepted)


def episodes(log: Sequence[Decision]) -> list[AlarmEpisode]:
    """Times in which any accuracy alarm was on; one that moves to another version goes on."""
    found: list[AlarmEpisode] = []
    firing: set[str] = set()
    moments = sorted({d.at for d in log if d.kind is DecisionKind.ALARM})
    for at in moments:
        was_on = bool(firing)
        here = [d for d in log if d.kind is DecisionKind.ALARM and d.at == at]
        for decision in here:
            status, fingerprint = decision.evidence["status"], decision.evidence["fingerprint"]
            (firing.add if status == "firing" else firing.discard)(fingerprint)
        if firing and not was_on:
            told = next(d for d in here if d.evidence["status"] == "firing")
            found.append(AlarmEpisode(raised=at, ended=None, true=False, text=told.reason))
        if was_on and not firing:
            found[-1] = found[-1].model_copy(update={"ended": at})
    return found


def promoted_at(log: Sequence[Decision]) -> tuple[datetime, ...]:
    """When a version became champion for the first time."""
    seen: set[str] = set()
    found = []
    for decision in log:
        version = str(decision.evidence.get("version"))
        if decision.kind is DecisionKind.ALIAS and version not in seen:
            seen.add(version)
            found.append(decision.at)
    return tuple(found)


def _taken_back(decision: Decision) -> bool:
    if decision.kind is not DecisionKind.ROLLOUT:
        return False
    return decision.evidence.get("to", {}).get("state") in _TAKEN_BACK


def _total(
    spec: ModelSpec, history: History, played: Played, chosen: Mask
) -> tuple[float, int | None]:
    answers = judging.graded(spec, history, played.answered, chosen)
    if answers is None:
        return float("nan"), None
    primary = spec.metrics.primary
    wrong = None
    if spec.task is not Task.REGRESSION:
        wrong = int((answers.decisions != answers.labels).sum())
    return answers.values([primary])[primary], wrong


def _events(log: Sequence[Decision]) -> list[Event]:
    found = []
    for decision in log:
        kind = _SHOWN.get(decision.kind)
        if decision.kind is DecisionKind.VERDICT and decision.evidence.get("called"):
            kind = "drift"
        if _taken_back(decision):
            kind = "rollback"
        if kind is not None:
            found.append(Event(at=decision.at, kind=kind, text=decision.reason))
    return found
