"""Which decisions are worth a person's attention, and what they are told.

One fall of a model's accuracy raises several alarms: the controller's own test, its floor, the
rules of Prometheus that look at the same windows. All are in the log; people hear of the first,
of a graver one, and once of the end. A fault that is found again in each window is told once a day.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from heliotrope.domain.accuracy import AlarmKind
from heliotrope.domain.alarms import AlarmSource
from heliotrope.domain.decisions import Decision, DecisionKind
from heliotrope.domain.triggers import TriggerState
from heliotrope.vocabulary import MODEL_PLATFORM

_GRAVE = frozenset({"page", "critical"})
_FAULTS = frozenset({"fix_data", "fix_labels", "check_labels"})
_GIVEN_UP = f"{TriggerState.REFUSED}, max_failures:"
REMIND = timedelta(days=1)
"""After which a fault that is still there is told again, and a rule that rings stands for no other
alarm any more: its end is lost where Alertmanager was taken away meanwhile."""
ECHO = "HeliotropeAlarmActive"
"""Rings for an alarm of the controller's own, which was told already."""
GRAVITY = {
    str(AlarmKind.FALL): 1,
    "HeliotropeAccuracyFell": 1,
    str(AlarmKind.FLOOR): 2,
    "HeliotropeAccuracyBelowFloor": 2,
}
"""Alarms of one fall, and which of them say more."""


class Mood(StrEnum):
    """How a message is to be taken."""

    INFO = "info"
    """Something went as it should."""
    SUCCESS = "success"
    """Something that was wrong is right again."""
    WARNING = "warning"
    """Somebody should look today."""
    FAILURE = "failure"
    """Somebody should look now."""


@dataclass(frozen=True)
class Notice:
    """A message to people."""

    title: str
    """Short: what, and of which model."""
    text: str
    """Why, in numbers; where to look."""
    mood: Mood


_ENDS = {
    "rolled_back": Mood.FAILURE,
    "aborted": Mood.WARNING,
    "promoted": Mood.INFO,
    "baking": Mood.INFO,
}
"""States of a rollout that people are told of."""


@dataclass
class _Fall:
    """An alarm of a fall while it is on."""

    name: str
    slice: str
    """Empty for the whole model."""
    own: bool
    """Whether it is the controller's, whose word on the end holds."""
    at: datetime
    """When it was raised."""
    told: str
    """The name of the alarm that people heard of; empty where they heard of none."""

    def covers(self, other: "_Fall") -> bool:
        """Whether it is on the whole model, or on the same slice."""
        return self.slice in ("", other.slice)

    def says_as_much(self, other: "_Fall") -> bool:
        """Whether somebody who knows of this one learns nothing from the other."""
        heard = self.own or other.at - self.at < REMIND
        return heard and self.covers(other) and GRAVITY[self.name] >= GRAVITY[other.name]


class News:
    """Follows one model's log, oldest first, and says what of it is news to people."""

    def __init__(self) -> None:
        self._falls: dict[str, _Fall] = {}
        """Those that are on, by fingerprint."""
        self._faults: dict[tuple[str, str], datetime] = {}
        """When people were told, by remedy and what is faulty."""

    def hear(self, decision: Decision) -> Notice | None:
        """What people are told of the next decision; None for the many they need not hear of.

        They hear of alarms raised and over, of data and label faults, of champions made and taken
        back, and of a retraining that is given up on.
        """
        if decision.kind is DecisionKind.DIAGNOSIS:
            return self._diagnosed(decision)
        if decision.kind is not DecisionKind.ALARM:
            return _of_deed(decision)
        name = _word(decision, "name")
        if name == ECHO:
            return None
        if name not in GRAVITY:
            return _of_alarm(decision)
        key = _word(decision, "fingerprint")
        over = _word(decision, "status") == "resolved"
        return self._over(decision, key) if over else self._raised(decision, key)

    def _diagnosed(self, decision: Decision) -> Notice | None:
        fault = (_word(decision, "remedy"), _word(decision, "subject"))
        if fault[0] not in _FAULTS:
            return None
        before = self._faults.get(fault)
        if before is not None and decision.at - before < REMIND:
            return None
        self._faults[fault] = decision.at
        return _told(decision, "A person is needed", Mood.FAILURE)

    def _raised(self, decision: Decision, key: str) -> Notice | None:
        labels = decision.evidence.get("labels")
        place = str(labels.get("slice", "")) if isinstance(labels, dict) else ""
        own = _word(decision, "source") == AlarmSource.CONTROLLER
        before = self._falls.pop(key, None)
        told = before.told if before else ""
        fall = _Fall(_word(decision, "name"), place, own, decision.at, told)
        known = fall.told or any(one.says_as_much(fall) for one in self._falls.values())
        self._falls[key] = fall
        if known:
            return None
        fall.told = fall.name
        return _of_alarm(decision)

    def _over(self, decision: Decision, key: str) -> Notice | None:
        fall = self._falls.pop(key, None)
        if fall is None:
            # Raised before anybody followed the log.
            return _of_alarm(decision)
        if not fall.told:
            return None
        left = [one for one in self._falls.values() if one.own or not fall.own]
        heir = next((one for one in left if one.covers(fall)), None)
        if heir is not None:
            heir.told = heir.told or fall.told
            return None
        notice, still = _of_alarm(decision, fall.told), [one for one in left if not one.told]
        for one in still:
            one.told = one.name
        more = "".join(f"\nStill on: {one.name} in {one.slice}." for one in still)
        return replace(notice, text=notice.text + more)


def _of_deed(decision: Decision) -> Notice | None:
    match decision.kind:
        case DecisionKind.ROLLOUT if (state := _entered(decision)) in _ENDS:
            words = "is champion" if state == "baking" else state.replace("_", " ")
            return _told(decision, f"{decision.subject}: {words}", _ENDS[state])
        case DecisionKind.TRIGGER if decision.reason.startswith(_GIVEN_UP):
            return _told(decision, "Retraining is given up", Mood.FAILURE)
    return None


def _of_alarm(decision: Decision, known_as: str = "") -> Notice:
    over = _word(decision, "status") == "resolved"
    name = known_as or _word(decision, "name") or decision.subject
    runbook = _word(decision, "runbook")
    title = f"{'Over' if over else 'Alarm'}: {name}{_place(decision)}"
    text = f"{decision.reason}\n{runbook}".rstrip()
    if over:
        return Notice(title, text, Mood.SUCCESS)
    grave = _word(decision, "severity") in _GRAVE
    return Notice(title, text, Mood.FAILURE if grave else Mood.WARNING)


def _told(decision: Decision, what: str, mood: Mood) -> Notice:
    return Notice(f"{what}{_place(decision)}", decision.reason, mood)


def _place(decision: Decision) -> str:
    return "" if decision.model == MODEL_PLATFORM else f" ({decision.model})"


def _entered(decision: Decision) -> str:
    """The state that a rollout entered."""
    to = decision.evidence.get("to")
    state = to.get("state") if isinstance(to, dict) else None
    return state if isinstance(state, str) else ""


def _word(decision: Decision, name: str) -> str:
    found = decision.evidence.get(name)
    return found if isinstance(found, str) else ""
