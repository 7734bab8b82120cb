"""Whether a chapter of the story went as it should, by what the platform wrote into its log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from heliotrope.domain.decisions import Decision, DecisionKind
from heliotrope.domain.live_view import RolloutView
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.domain.story_report import CONCEPT, first, raised
from heliotrope.domain.synthetic.story import ChapterName
from heliotrope.domain.triggers import TriggerState
from heliotrope.vocabulary import ALIAS_CHAMPION, Verdict

DATA_FAULT, COVARIATE = "data fault", "covariate shift"
"""What diagnoses call what happens in the chapters before the economy turns."""
QUALITY = ("ccuracy", "HeliotropeData", "HeliotropeEstimate")
"""Parts of the names of alarms about a model and its data; others are about machines."""


@dataclass(frozen=True)
class Told:
    """A chapter's outcome."""

    outcome: str
    """One sentence: what the platform did."""
    as_told: bool
    """Whether it went as it should."""


def told(
    name: ChapterName,
    decisions: Sequence[Decision],
    since: datetime,
    rollout: RolloutView | None = None,
) -> Told:
    """A chapter's outcome.

    Args:
        name: of the chapter.
        decisions: the log until the chapter's end, oldest first.
        since: when it began, UTC.
        rollout: the newest, as the platform shows it.
    """
    own = [one for one in decisions if one.at >= since]
    if name is ChapterName.HEALTHY:
        return _healthy(own, since)
    if name is ChapterName.FAULT:
        return _noticed(own, since, DATA_FAULT)
    if name is ChapterName.MENDED:
        return _mended(own, since)
    if name is ChapterName.NEWCOMERS:
        return _noticed(own, since, COVARIATE)
    if name is ChapterName.ECONOMY:
        return _economy(own, since)
    return _worse(own, since, rollout)


def _healthy(own: Sequence[Decision], since: datetime) -> Told:
    loud = raised(own, since, QUALITY) or _asked(own, since)
    if loud is not None:
        return Told(f"It was not quiet: {loud.reason}", as_told=False)
    judged = sum(one.kind is DecisionKind.VERDICT for one in own)
    return Told(f"No alarm and no retraining, over {judged} judged windows.", as_told=True)


def _noticed(own: Sequence[Decision], since: datetime, cause: str) -> Told:
    """What is to be noticed, named, and not acted on."""
    seen, asked = first(own, DecisionKind.DIAGNOSIS, since, cause), _asked(own, since)
    if seen is None:
        return Told(f"No {cause} was diagnosed.", as_told=False)
    said = f"{seen.reason.rstrip('.')}. Named after {_hours(seen.at - since)}"
    if asked is not None:
        return Told(f"{said}; but a retraining was started: {asked.reason}", as_told=False)
    return Told(f"{said}; nothing was retrained.", as_told=True)


def _mended(own: Sequence[Decision], since: datetime) -> Told:
    asked = _asked(own, since)
    verdicts = [one for one in own if one.kind is DecisionKind.VERDICT and "data" in one.evidence]
    whole = bool(verdicts) and verdicts[-1].evidence["data"] != Verdict.FAIL
    if asked is not None:
        return Told(f"A retraining was started: {asked.reason}", as_told=False)
    if not whole:
        return Told("The data is still held to be at fault.", as_told=False)
    well = next(one for one in verdicts if one.evidence["data"] != Verdict.FAIL)
    after = _hours(well.at - since)
    return Told(
        f"The data is found whole again after {after}; what asked for a retraining meanwhile "
        "was not given one.",
        as_told=True,
    )


def _economy(own: Sequence[Decision], since: datetime) -> Told:
    steps = {
        "no alarm was raised": raised(own, since),
        "its cause was not named": first(own, DecisionKind.DIAGNOSIS, since, CONCEPT),
        "no retraining was started": _asked(own, since),
        "no new champion came": first(own, DecisionKind.ALIAS, since, ALIAS_CHAMPION),
    }
    missing = [words for words, found in steps.items() if found is None]
    if missing:
        return Told(f"{missing[0][0].upper()}{missing[0][1:]}.", as_told=False)
    alarm, cause, asked, crowned = (_hours(one.at - since) for one in steps.values() if one)
    return Told(
        f"Alarm after {alarm}, cause named after {cause}, retraining after {asked}, a new "
        f"champion after {crowned}.",
        as_told=True,
    )


def _worse(own: Sequence[Decision], since: datetime, rollout: RolloutView | None) -> Told:
    crowned = first(own, DecisionKind.ALIAS, since, ALIAS_CHAMPION)
    if crowned is not None:
        return Told(f"The champion was changed: {crowned.reason}", as_told=False)
    if rollout is None or rollout.opened_at < since:
        return Told("The worse model was never rolled out.", as_told=False)
    if rollout.state != RolloutState.ROLLED_BACK:
        return Told(f"The worse model is not gone: {rollout.state}.", as_told=False)
    return Told(
        f"Version {rollout.candidate} was taken back after "
        f"{_hours(rollout.entered_at - rollout.opened_at)}: {rollout.reason}",
        as_told=True,
    )


def _asked(own: Sequence[Decision], since: datetime) -> Decision | None:
    """The first retraining that was decided upon."""
    return first(own, DecisionKind.TRIGGER, since, f"{TriggerState.REQUESTED.value}, ")


def _hours(length: timedelta) -> str:
    hours = length / timedelta(hours=1)
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.0f} hours"
