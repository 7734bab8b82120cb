"""The one door to a training run: gather, decide, apply.

Every step is written down before it is taken, so that whoever is killed in between, and wherever,
leaves what the next one needs to go on: a trigger is REQUESTED in the same transaction as its
decision, then the run is started under the cause's own name (a second start finds the first), then
the trigger is RUNNING.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from heliotrope.domain.decisions import DecisionEntry, DecisionKind
from heliotrope.domain.retraining import TriggerDecision, Word, decide_retraining
from heliotrope.domain.retraining_history import RetrainingHistory
from heliotrope.domain.triggers import FLYING, Cause, CauseKind, Trigger, TriggerState
from heliotrope.errors import ConflictError, HeliotropeError
from heliotrope.ports.runs import RunState
from heliotrope.ports.state import Kept, Put, StateKind
from heliotrope.service.retraining_end import end_of
from heliotrope.service.retraining_facts import Facts, RetrainingTools
from heliotrope.service.training_launch import TRAINING
from heliotrope.spec import ModelSpec
from heliotrope.spec.loading import dump_spec

logger = logging.getLogger(__name__)
FLIGHT = "retraining"
"""Key of the cursor that every start moves: of two who decide at once, one decides again."""
_TRIES = 20
_STALE = timedelta(minutes=10)
"""How old the numbers of a waiting trigger may get before they are written anew."""
_STATES = {
    Word.START: TriggerState.REQUESTED,
    Word.WAIT: TriggerState.WAITING,
    Word.REFUSE: TriggerState.REFUSED,
}


class RetrainingDoor:
    """The door of one model. Any number of processes may hold one at once.

    Args:
        spec: of the model.
        tools: of the outside.
    """

    def __init__(self, spec: ModelSpec, tools: RetrainingTools) -> None:
        self.spec, self.tools = spec, tools
        self.facts = Facts(spec, tools)

    def ask(self, cause: Cause, now: datetime) -> Trigger:
        """Decide on a cause and start its run if that is the answer.

        Told again, a cause that is settled stays so. Evidence of a kind that is waiting already is
        folded into what waits: the newest diagnosis holds.

        Raises:
            UnavailableError: MLflow or the database does not answer.
        """
        settled = self.tools.state.get(StateKind.TRIGGER, self.spec.name, cause.hash)
        if settled is not None:
            trigger = Trigger.from_json(settled.text)
            if not _open(trigger, cause):
                return trigger
        for _ in range(_TRIES):
            flight = self.tools.state.get(StateKind.CURSOR, self.spec.name, FLIGHT)
            known = self.facts.triggers()
            place, told = _fold(cause, known)
            if place is not None and not _open(place[1], cause):
                return place[1]
            history = self._history(now, [trigger for _, trigger in known], told)
            if told.champion is None:
                told = told.model_copy(update={"champion": history.champion})
            decision = decide_retraining(self.spec.retraining, history, told, now)
            try:
                trigger = self._apply(told, decision, history, place, flight, now)
            except ConflictError:
                continue
            return self._launched(trigger, now) if decision.word is Word.START else trigger
        raise ConflictError(
            f"{cause.text}: the triggers of {self.spec.name} must rest for a moment."
        )

    def withdraw(self, trigger: Trigger, why: str, now: datetime) -> None:
        """Let a waiting trigger go, since what it rested on is over."""
        kept = self.tools.state.get(StateKind.TRIGGER, self.spec.name, trigger.cause.hash)
        if kept is None or Trigger.from_json(kept.text).state is not TriggerState.WAITING:
            return
        change = {"state": TriggerState.WITHDRAWN, "rule": "withdrawn", "reason": why}
        after = trigger.model_copy(update={**change, "decided_at": now, "until": None})
        self._write(kept, after, [self._entry(after, now, "withdrawn", {})], now)

    def settle(self, now: datetime) -> list[Trigger]:
        """See to runs that are to start or may be over; answers those that ended."""
        ended = []
        for kept, trigger in self.facts.triggers():
            if trigger.state is TriggerState.REQUESTED:
                self._start(trigger, now)
            elif trigger.state is TriggerState.RUNNING:
                state = self.tools.launcher.state(trigger.cause.run_key)
                if state is not RunState.RUNNING:
                    ended.append(self._end(kept, trigger, state, now))
        return ended

    def reconsider(self, now: datetime) -> None:
        """Ask again for all that waits, the oldest first."""
        waiting = [t for _, t in self.facts.triggers() if t.state is TriggerState.WAITING]
        for trigger in sorted(waiting, key=lambda one: one.cause.asked_at):
            self.ask(trigger.cause, now)

    def _history(
        self, now: datetime, triggers: Sequence[Trigger], cause: Cause
    ) -> RetrainingHistory:
        history = self.facts.history(now, triggers, cause.since)
        if cause.kind is CauseKind.SCHEDULE and not self.spec.source.predictions:
            # The source grows elsewhere: what was logged here says nothing of it.
            return replace(history, new_labels=None)
        return history

    def _apply(
        self,
        cause: Cause,
        decision: TriggerDecision,
        history: RetrainingHistory,
        place: tuple[Kept, Trigger] | None,
        flight: Kept | None,
        now: datetime,
    ) -> Trigger:
        starts = decision.word is Word.START
        trigger = Trigger(
            cause=cause,
            state=_STATES[decision.word],
            rule=decision.rule,
            reason=decision.reason,
            decided_at=now,
            until=decision.until,
            requested_at=now if starts else None,
        )
        if place is not None and _says_the_same(place[1], trigger, now):
            return place[1]
        revision = place[0].revision if place else 0
        puts = [_put(trigger, revision)]
        if starts:
            moved = flight.revision if flight else 0
            text = f'{{"run": "{cause.run_key}"}}\n'
            puts.append(Put(StateKind.CURSOR, self.spec.name, FLIGHT, text, moved))
        step = decision.word.value + (f"/{decision.rule}" if not starts else "")
        evidence = {
            "failures": history.failures,
            "new_labels": history.new_labels,
            "level": None if history.level is None else str(history.level),
            ("refused_by" if decision.word is Word.REFUSE else "rule"): decision.rule,
        }
        entries = [self._entry(trigger, now, step, evidence)]
        if cause.kind is CauseKind.PERSON:
            entries.insert(0, self._order(cause, now))
        self.tools.state.apply(now, puts, entries)
        return trigger

    def _launched(self, trigger: Trigger, now: datetime) -> Trigger:
        try:
            return self._start(trigger, now)
        except HeliotropeError as error:
            # It is written down: the controller's next tick tries again.
            logger.warning("%s could not start yet: %s", trigger.cause.run_key, error)
            return trigger

    def _start(self, trigger: Trigger, now: datetime) -> Trigger:
        cause, launcher = trigger.cause, self.tools.launcher
        arguments = {
            "spec": dump_spec(self.spec),
            "run_key": cause.run_key,
            "cause": f"{cause.kind}: {cause.text}",
            "since": cause.since.isoformat() if cause.since else "",
        }
        path = self.tools.python_path
        launcher.start(TRAINING, arguments, cause.run_key, python_path=path)
        if launcher.state(cause.run_key) is RunState.ABSENT:
            return trigger
        kept = self.tools.state.get(StateKind.TRIGGER, self.spec.name, cause.hash)
        if kept is None or Trigger.from_json(kept.text).state is not TriggerState.REQUESTED:
            return trigger
        after = trigger.model_copy(update={"state": TriggerState.RUNNING, "decided_at": now})
        self._write(kept, after, [], now)
        return after

    def _end(self, kept: Kept, trigger: Trigger, state: RunState, now: datetime) -> Trigger:
        outcome = end_of(self.spec.name, trigger.cause.run_key, state, self.tools)
        after = trigger.model_copy(
            update={
                "state": TriggerState.ENDED,
                "reason": outcome.reason,
                "decided_at": now,
                "ended_at": now,
                "outcome": outcome.outcome,
                "version": outcome.version,
            }
        )
        entry = DecisionEntry(
            model=self.spec.name,
            at=now,
            kind=DecisionKind.RUN,
            actor=f"run:{trigger.cause.run_key}",
            subject=f"run {trigger.cause.run_key}",
            reason=f"{outcome.outcome.replace('_', ' ')}: {outcome.reason}",
            evidence=outcome.model_dump(mode="json"),
            key=f"run/{trigger.cause.run_key}/end",
        )
        self._write(kept, after, [entry], now)
        return after

    def _write(
        self, kept: Kept, after: Trigger, entries: Sequence[DecisionEntry], now: datetime
    ) -> None:
        try:
            self.tools.state.apply(now, [_put(after, kept.revision)], entries)
        except ConflictError:
            # Another process took the same step; what it wrote is read at the next tick.
            logger.info("%s was moved on by another process.", after.cause.run_key)

    def _entry(
        self, trigger: Trigger, now: datetime, step: str, evidence: dict[str, Any]
    ) -> DecisionEntry:
        cause = trigger.cause
        return DecisionEntry(
            model=self.spec.name,
            at=now,
            kind=DecisionKind.TRIGGER,
            actor="controller",
            subject=f"{cause.kind} {cause.key}",
            reason=f"{trigger.state.value}, {trigger.rule}: {trigger.reason}",
            evidence={**evidence, "cause": cause.model_dump(mode="json")},
            key=f"trigger/{cause.hash}/{step}",
        )

    def _order(self, cause: Cause, now: datetime) -> DecisionEntry:
        force = " (forced)" if cause.forced else ""
        return DecisionEntry(
            model=self.spec.name,
            at=now,
            kind=DecisionKind.PERSON,
            actor=cause.actor,
            subject="retraining",
            reason=f"ordered a retraining{force}: {cause.text}",
            key=f"order/{cause.hash}",
        )


_OPEN_TO_WORDS = frozenset({TriggerState.WAITING, TriggerState.WITHDRAWN})


def _open(kept: Trigger, told: Cause) -> bool:
    """Whether a cause that is told again is decided on again."""
    if kept.state is TriggerState.REFUSED and kept.rule == "remedy":
        # The fault was mended, or a later window shows something else.
        return told.remedy not in (None, kept.cause.remedy)
    return kept.state in _OPEN_TO_WORDS


def _fold(
    cause: Cause, known: Sequence[tuple[Kept, Trigger]]
) -> tuple[tuple[Kept, Trigger] | None, Cause]:
    """Where a cause is kept already, and the cause as it is to be decided on."""
    for place in known:
        if place[1].cause.hash == cause.hash:
            return place, _renewed(place[1], cause)
    if cause.kind.evidence:
        for place in known:
            waits = place[1].state is TriggerState.WAITING and place[1].cause.kind is cause.kind
            if waits and _same_champion(place[1].cause, cause):
                return place, _renewed(place[1], cause)
    return None, cause


def _same_champion(one: Cause, other: Cause) -> bool:
    return None in (one.champion, other.champion) or one.champion == other.champion


def _renewed(kept: Trigger, told: Cause) -> Cause:
    before = kept.cause
    if kept.state is TriggerState.WITHDRAWN:
        return told.model_copy(update={"champion": told.champion or before.champion})
    return before.model_copy(
        update={
            "text": told.text,
            "evidence": told.evidence,
            "remedy": told.remedy if told.remedy is not None else before.remedy,
            "harm": told.harm if told.harm is not None else before.harm,
            "since": told.since or before.since,
            # Whom it was first told of: another champion has its own outcomes to be asked for by.
            "champion": before.champion or told.champion,
        }
    )


def _says_the_same(before: Trigger, after: Trigger, now: datetime) -> bool:
    same = (before.state, before.rule, before.until) == (after.state, after.rule, after.until)
    told = before.cause == after.cause
    return same and told and abs(now - before.decided_at) < _STALE


def _put(trigger: Trigger, expected: int) -> Put:
    cause = trigger.cause
    return Put(StateKind.TRIGGER, cause.model, cause.hash, trigger.to_json(), expected)


def flying(triggers: Sequence[Trigger]) -> Trigger | None:
    """The trigger whose run is under way, or about to be."""
    return next((one for one in triggers if one.state in FLYING), None)
