"""Which decisions are worth a person's attention, and what they are told."""

from dataclasses import dataclass

from heliotrope.domain.decisions import Decision, DecisionKind
from heliotrope.domain.triggers import TriggerState
from heliotrope.vocabulary import MODEL_PLATFORM

_GRAVE = frozenset({"page", "critical"})
_FAULTS = frozenset({"fix_data", "fix_labels", "check_labels"})
_GIVEN_UP = f"{TriggerState.REFUSED}, max_failures:"
_ENDS = {"rolled_back": True, "aborted": False, "promoted": False, "baking": False}
"""States of a rollout that people are told of, and whether they are bad news."""


@dataclass(frozen=True)
class Notice:
    """A message to people."""

    title: str
    """Short: what, and of which model."""
    text: str
    """Why, in numbers; where to look."""
    grave: bool
    """Whether somebody should look now."""
    relief: bool = False
    """Whether something that was wrong is right again."""


def notice_of(decision: Decision) -> Notice | None:
    """What people are told of a decision; None for the many they need not hear of.

    They hear of alarms raised and over, of data and label faults, of champions made and taken
    back, and of a retraining that is given up on.
    """
    match decision.kind:
        case DecisionKind.ALARM:
            return _of_alarm(decision)
        case DecisionKind.DIAGNOSIS if _word(decision, "remedy") in _FAULTS:
            return _told(decision, "A person is needed", grave=True)
        case DecisionKind.ROLLOUT if (state := _entered(decision)) in _ENDS:
            words = "is champion" if state == "baking" else state.replace("_", " ")
            return _told(decision, f"{decision.subject}: {words}", grave=_ENDS[state])
        case DecisionKind.TRIGGER if decision.reason.startswith(_GIVEN_UP):
            return _told(decision, "Retraining is given up", grave=True)
    return None


def _of_alarm(decision: Decision) -> Notice:
    over = _word(decision, "status") == "resolved"
    name = _word(decision, "name") or decision.subject
    runbook = _word(decision, "runbook")
    title = f"{'Over' if over else 'Alarm'}: {name}{_place(decision)}"
    text = f"{decision.reason}\n{runbook}".rstrip()
    grave = not over and _word(decision, "severity") in _GRAVE
    return Notice(title, text, grave, relief=over)


def _told(decision: Decision, what: str, *, grave: bool) -> Notice:
    return Notice(f"{what}{_place(decision)}", decision.reason, grave)


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
