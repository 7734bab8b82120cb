"""The one door to a training run: whether a cause starts one, now, later or never.

Pure: the same policy, history, cause and time give the same answer, with its reason in numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from heliotrope.domain.remedy.documents import Remedy
from heliotrope.domain.retraining_history import RetrainingHistory
from heliotrope.domain.triggers import Cause, CauseKind
from heliotrope.spec.policies import Retraining


class Word(StrEnum):
    """What the door says."""

    START = "start"
    """A run starts now."""
    WAIT = "wait"
    """Not now; it is asked again at the next tick."""
    REFUSE = "refuse"
    """Never, for this cause."""


@dataclass(frozen=True)
class TriggerDecision:
    """What the door says to one cause."""

    word: Word
    rule: str
    """The rule that decided; where the spec sets it, its name under `retraining`."""
    reason: str
    until: datetime | None = None
    """WAIT: when the answer may change, where that is known."""


_Rule = Callable[[Retraining, RetrainingHistory, Cause, datetime], TriggerDecision | None]


def decide_retraining(
    policy: Retraining, history: RetrainingHistory, cause: Cause, now: datetime
) -> TriggerDecision:
    """Whether a cause starts a run.

    Rules are asked in turn and the first with an answer decides: what can never start comes
    before what may start later. A person's order passes by the rules on evidence (cooldown, new
    labels, worth), and when forced by failed candidates too; it never passes by a run under way
    or the daily budget.

    Args:
        policy: of the spec.
        history: of the model, as of now.
        cause: what asks; of a cause that started a run already, nothing starts again.
        now: UTC. May be earlier than what is in the history: a clock that was set back.

    >>> from datetime import UTC
    >>> now = datetime(2026, 3, 1, tzinfo=UTC)
    >>> cause = Cause(kind=CauseKind.PERSON, key="1", model="m", text="new features", asked_at=now)
    >>> decide_retraining(Retraining(), RetrainingHistory(), cause, now).word
    <Word.START: 'start'>
    """
    for rule in _RULES:
        answer = rule(policy, history, cause, now)
        if answer is not None:
            return answer
    return _start(history, cause)


def _start(history: RetrainingHistory, cause: Cause) -> TriggerDecision:
    said = [cause.text.rstrip(".")]
    if history.new_labels is not None:
        since = "" if history.changed_labels is None else (
            f", {history.changed_labels:,} of them since the change"
        )  # fmt: skip
        said.append(f"{history.new_labels:,} new mature labels{since}")
    if history.level is not None:
        said.append(f"{history.level}, first accepted at {history.level.accepted:.3f}")
    return TriggerDecision(Word.START, "worth it", "; ".join(said))


def _same_cause(
    _policy: Retraining, history: RetrainingHistory, cause: Cause, _now: datetime
) -> TriggerDecision | None:
    if any(run.run_key == cause.run_key for run in history.runs):
        reason = f"this cause has started {cause.run_key} already, and starts only one"
        return TriggerDecision(Word.REFUSE, "same cause", reason)
    return None


def _remedy(
    _policy: Retraining, _history: RetrainingHistory, cause: Cause, _now: datetime
) -> TriggerDecision | None:
    fault = {
        Remedy.FIX_DATA: "the data are at fault, and training would teach the fault: mend the data",
        Remedy.CHECK_LABELS: "the labels are at fault, not the model: mend the labels",
    }
    if cause.remedy in fault:
        return TriggerDecision(Word.REFUSE, "remedy", f"{fault[cause.remedy]} ({cause.text})")
    if cause.remedy is Remedy.WAIT and cause.kind.evidence:
        return TriggerDecision(Word.REFUSE, "remedy", f"no harm is diagnosed ({cause.text})")
    return None


def _diagnosed(
    _policy: Retraining, history: RetrainingHistory, cause: Cause, _now: datetime
) -> TriggerDecision | None:
    """Alerts and persistence bring no diagnosis of their own, and wait for one that says so."""
    if cause.kind not in (CauseKind.ALERT, CauseKind.PERSISTENCE) or cause.remedy is not None:
        return None
    said = history.diagnosed
    if said is Remedy.RETRAIN or (said is None and cause.kind is CauseKind.PERSISTENCE):
        return None
    what = "nobody has diagnosed it yet" if said is None else f"the newest diagnosis says {said}"
    return TriggerDecision(Word.WAIT, "diagnosis", f"{what}; only `retrain` starts a run")


def _on_evidence(
    policy: Retraining, _history: RetrainingHistory, cause: Cause, _now: datetime
) -> TriggerDecision | None:
    if cause.kind.evidence and not policy.on_evidence:
        reason = "retraining.on_evidence is off: only the schedule and people start runs"
        return TriggerDecision(Word.REFUSE, "on_evidence", reason)
    return None


def _answered(
    _policy: Retraining, history: RetrainingHistory, cause: Cause, _now: datetime
) -> TriggerDecision | None:
    if cause.kind is CauseKind.PERSON:
        return None
    for run in history.runs:
        if run.succeeded and run.requested_at >= cause.asked_at:
            reason = f"{run.run_key}, decided upon after it was asked, gave version {run.version}"
            return TriggerDecision(Word.REFUSE, "answered", reason)
    if cause.kind.evidence and cause.champion not in (None, history.champion):
        reason = f"it is about version {cause.champion}; version {history.champion} is champion now"
        return TriggerDecision(Word.REFUSE, "answered", reason)
    return None


def _single_flight(
    _policy: Retraining, history: RetrainingHistory, cause: Cause, _now: datetime
) -> TriggerDecision | None:
    run = history.under_way
    if run is not None:
        reason = f"{run.run_key} is under way since {_moment(run.requested_at)}"
        return TriggerDecision(Word.WAIT, "single flight", reason)
    if history.rollout is not None and cause.kind is not CauseKind.PERSON:
        reason = f"{history.rollout} is under way, and may answer it"
        return TriggerDecision(Word.WAIT, "rollout", reason)
    return None


def _circuit(
    policy: Retraining, history: RetrainingHistory, cause: Cause, _now: datetime
) -> TriggerDecision | None:
    failures = history.failures
    if failures >= policy.max_failures and not cause.forced:
        reason = (
            f"{failures} candidates in a row came to nothing (at most {policy.max_failures}): "
            "a person must look, and order with --force"
        )
        return TriggerDecision(Word.REFUSE, "max_failures", reason)
    return None


def _budget(
    policy: Retraining, history: RetrainingHistory, _cause: Cause, now: datetime
) -> TriggerDecision | None:
    today = now.astimezone(UTC).date()
    spent = sum(run.requested_at.astimezone(UTC).date() == today for run in history.runs)
    if spent < policy.daily_budget:
        return None
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC) + timedelta(days=1)
    reason = (
        f"{spent} of {policy.daily_budget} runs of {today} are spent, until {_moment(midnight)}"
    )
    return TriggerDecision(Word.WAIT, "daily_budget", reason, midnight)


def _cooldown(
    policy: Retraining, history: RetrainingHistory, cause: Cause, now: datetime
) -> TriggerDecision | None:
    before = [run for run in history.runs if run.kind.evidence]
    if not cause.kind.evidence or not before:
        return None
    last = max(before, key=lambda run: run.requested_at)
    until = last.requested_at + policy.cooldown
    if now >= until:
        return None
    reason = f"evidence started {last.run_key} at {_moment(last.requested_at)}; " + (
        f"the next may start from {_moment(until)} on"
    )
    return TriggerDecision(Word.WAIT, "cooldown", reason, until)


def _new_labels(
    policy: Retraining, history: RetrainingHistory, cause: Cause, _now: datetime
) -> TriggerDecision | None:
    there, wanted = history.new_labels, policy.minimum_new_labels
    what = "are newer than the champion's training data"
    if cause.since is not None and history.changed_labels is not None:
        # What came before the change teaches and judges the world that is over.
        there, what = history.changed_labels, f"came since the change at {_moment(cause.since)}"
    if cause.kind is CauseKind.PERSON or there is None or there >= wanted:
        return None
    reason = f"{there:,} mature labels {what}, {wanted:,} make it worth it: {wanted - there:,} more"
    return TriggerDecision(Word.WAIT, "minimum_new_labels", reason)


def _worth(
    _policy: Retraining, history: RetrainingHistory, cause: Cause, _now: datetime
) -> TriggerDecision | None:
    """Drift alone says little of harm, so what only hints waits until labels show it.

    Rank correlation of drifted features with lost accuracy ran from -.24 to .40 on nine streams.
    """
    if not cause.kind.evidence:
        return None
    level = history.level
    if cause.kind is CauseKind.PERSISTENCE and (level is None or not level.missed):
        return TriggerDecision(Word.REFUSE, "worth it", f"the target is no longer missed: {level}")
    shown = cause.harm or cause.remedy is Remedy.RETRAIN or cause.kind is CauseKind.ACCURACY
    if cause.kind is CauseKind.ACCURACY and cause.remedy is None and level is not None:
        # A test has shown a fall that no diagnosis can name: the newest outcomes say whether it
        # lasts. It may have been chance, or be over.
        shown = False
    if shown or (level is not None and level.missed):
        return None
    if level is None:
        return TriggerDecision(Word.WAIT, "worth it", "no mature labels show harm yet")
    reason = (
        f"{level} is not below the accepted {level.accepted:.3f} by more than {level.fall:g}: "
        "nothing to win yet"
    )
    return TriggerDecision(Word.WAIT, "worth it", reason)


_RULES: tuple[_Rule, ...] = (
    _same_cause,
    _remedy,
    _on_evidence,
    _answered,
    _circuit,
    _diagnosed,
    _single_flight,
    _budget,
    _cooldown,
    _new_labels,
    _worth,
)


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
