"""What the controller does for retraining at every tick."""

from collections import Counter
from datetime import datetime

from heliotrope.domain.alarms import Alarm, changed_at
from heliotrope.domain.asking import ALERT_HARM, alert_cause, persistence_cause, schedule_cause
from heliotrope.domain.document import Document
from heliotrope.domain.triggers import CauseKind, TriggerState
from heliotrope.errors import ConflictError
from heliotrope.ports.state import Put, StateKind
from heliotrope.service.accepted import write_accepted
from heliotrope.service.retraining import RetrainingDoor, flying
from heliotrope.service.retraining_facts import RetrainingTools
from heliotrope.spec import ModelSpec
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board

SCHEDULE = "schedule"
"""Key of the cursor that says up to when the schedule was asked for."""
_WORDS = {
    TriggerState.WAITING: "wait",
    TriggerState.REFUSED: "refuse",
    TriggerState.WITHDRAWN: "refuse",
    TriggerState.REQUESTED: "start",
    TriggerState.RUNNING: "start",
    TriggerState.ENDED: "start",
}


class ScheduleCursor(Document):
    """How far the schedule was followed."""

    after: datetime


class RetrainingDuty:
    """One model's retraining: runs seen to their end, what waits asked again, the schedule,
    Prometheus' alerts, and asking again while the target is missed.

    Args:
        spec: of the model.
        tools: of the outside.
        board: where the numbers go.
    """

    def __init__(self, spec: ModelSpec, tools: RetrainingTools, board: Board) -> None:
        self.name = f"retraining {spec.name}"
        self.model = spec.name
        self.door = RetrainingDoor(spec, tools)
        self._spec, self._tools, self._board = spec, tools, board
        self._accepted = False

    def run(self, now: datetime) -> None:
        """Gather, decide, apply; what was begun is seen to first."""
        self.door.settle(now)
        self._accept(now)
        self._follow_alerts(now)
        self.door.reconsider(now)
        self._follow_schedule(now)
        self._persist(now)
        self._show()

    def _accept(self, now: datetime) -> None:
        # MLflow is asked only once there is a level to hold against it: it is slow to wake.
        windows = self._tools.windows
        if self._accepted or windows is None or not any(w.maturity.mature for w in windows(now)):
            return
        found = write_accepted(self._tools.state, self._tools.registry(), self._spec, now)
        self._accepted = found is not None

    def _follow_alerts(self, now: datetime) -> None:
        kept = self._tools.state.kept(StateKind.ALARM, self.model)
        alarms = [Alarm.from_json(one.text) for one in kept]
        asking = [alarm for alarm in alarms if alarm.firing and alarm.name in ALERT_HARM]
        waiting = [
            trigger
            for _, trigger in self.door.facts.triggers()
            if trigger.cause.kind is CauseKind.ALERT and trigger.state is TriggerState.WAITING
        ]
        if waiting and not asking:
            for trigger in waiting:
                self.door.withdraw(trigger, "the alert is over", now)
        if asking:
            champion = self.door.facts.champion()
            since = changed_at(alarms)
            for alarm in asking:
                cause = alert_cause(alarm, champion, now, since)
                if cause is not None:
                    self.door.ask(cause, now)

    def _follow_schedule(self, now: datetime) -> None:
        if self._spec.retraining.schedule is None:
            return
        kept = self._tools.state.get(StateKind.CURSOR, self.model, SCHEDULE)
        if kept is None:
            # What fired before anybody followed the schedule is nobody's miss.
            self._move_schedule(now, 0, now)
            return
        after = ScheduleCursor.from_json(kept.text).after
        cause = schedule_cause(self.model, self._spec.retraining.schedule, after, now)
        if cause is not None:
            self.door.ask(cause, now)
            self._move_schedule(datetime.fromisoformat(cause.key), kept.revision, now)

    def _move_schedule(self, after: datetime, expected: int, now: datetime) -> None:
        text = ScheduleCursor(after=after).to_json()
        try:
            self._tools.state.apply(
                now, [Put(StateKind.CURSOR, self.model, SCHEDULE, text, expected)]
            )
        except ConflictError:
            # Another controller moved it just now; a firing asked for twice is one cause.
            return

    def _persist(self, now: datetime) -> None:
        triggers = [trigger for _, trigger in self.door.facts.triggers()]
        ran = any(trigger.requested_at is not None for trigger in triggers)
        busy = any(trigger.state is TriggerState.WAITING for trigger in triggers)
        if not ran or busy or flying(triggers) or self._tools.windows is None:
            return
        kept = self._tools.state.kept(StateKind.ALARM, self.model)
        since = changed_at(Alarm.from_json(one.text) for one in kept)
        history = self.door.facts.history(now, triggers)
        cause = persistence_cause(self.model, history, now, since)
        if cause is not None:
            self.door.ask(cause, now)

    def _show(self) -> None:
        triggers = [trigger for _, trigger in self.door.facts.triggers()]
        board, model = self._board, self.model
        said = Counter((str(one.cause.kind), _WORDS[one.state]) for one in triggers)
        for (kind, word), count in said.items():
            board.raise_to(metrics.RETRAINING_TRIGGERS, count, model, kind, word)
        outcomes = Counter(str(one.outcome) for one in triggers if one.outcome is not None)
        for outcome, count in outcomes.items():
            board.raise_to(metrics.RETRAINING_RUNS, count, model, outcome)
        board.set(metrics.RETRAINING_RUNNING, float(flying(triggers) is not None), model)
        board.set(metrics.RETRAINING_FAILURES, self.door.facts.failures(triggers), model)
        limit = self._spec.retraining.max_failures
        board.set(metrics.RETRAINING_FAILURE_LIMIT, limit, model)
