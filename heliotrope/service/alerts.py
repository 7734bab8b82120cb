"""Alerts from Alertmanager: kept as alarms, with an entry in the log for each that turns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

from heliotrope.clock import Clock
from heliotrope.domain.alarms import Alarm, Told, entry_of, hear, turned
from heliotrope.domain.decisions import DecisionEntry
from heliotrope.errors import ConflictError
from heliotrope.ports.state import Kept, Put, StateKind, StateStore

TRIES = 5
_Key = tuple[str, str]
"""Model, key."""


@dataclass
class AlertIntake:
    """Takes webhook calls, one after another. What was taken is in the store.

    Args:
        state: where alarms are kept.
        clock: the controller's.
        wake: called when an alarm turned, so that the duties see it at once.
    """

    state: StateStore
    clock: Clock
    wake: Callable[[], None]
    _lock: Lock = field(default_factory=Lock)

    def receive(self, told: Sequence[Told]) -> list[Alarm]:
        """Keep what a call tells; answers the alarms that were raised or are over.

        Raises:
            ConflictError: somebody else kept changing the same alarms.
            UnavailableError: the store does not answer.
        """
        with self._lock:
            for left in reversed(range(TRIES)):
                try:
                    found = self._keep(told)
                    break
                except ConflictError:
                    if not left:
                        raise
        if found:
            self.wake()
        return found

    def _keep(self, told: Sequence[Told]) -> list[Alarm]:
        now = self.clock.now()
        known: dict[_Key, Kept | None] = {}
        after: dict[_Key, Alarm] = {}
        turns: list[Alarm] = []
        entries: list[DecisionEntry] = []
        for alert in told:
            key = (alert.model, alert.key)
            if key not in known:
                known[key] = self.state.get(StateKind.ALARM, *key)
            before = after.get(key) or _alarm(known[key])
            alarm = hear(before, alert, now)
            after[key] = alarm
            if turned(before, alarm):
                turns.append(alarm)
                entries.append(entry_of(alarm, now))
        self.state.apply(now, _puts(known, after), entries)
        return turns


def _alarm(kept: Kept | None) -> Alarm | None:
    return None if kept is None else Alarm.from_json(kept.text)


def _puts(known: Mapping[_Key, Kept | None], after: Mapping[_Key, Alarm]) -> list[Put]:
    puts = []
    for (model, key), alarm in after.items():
        kept = known[model, key]
        if kept is not None and _alarm(kept) == alarm:
            continue
        revision = 0 if kept is None else kept.revision
        puts.append(Put(StateKind.ALARM, model, key, alarm.to_json(), revision))
    return puts
