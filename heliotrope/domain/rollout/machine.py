"""One tick of a rollout: from evidence to the next state, with its reasons. Pure and total."""

from datetime import datetime, timedelta

from heliotrope.domain.rollout import checks as ask
from heliotrope.domain.rollout.documents import Check, Decision, Rollout, Waits
from heliotrope.domain.rollout.evidence import Evidence, Health
from heliotrope.domain.rollout.plan import actions_between
from heliotrope.domain.rollout.policy import RolloutPolicy
from heliotrope.domain.rollout.states import CROWNED, RolloutState
from heliotrope.spec.base import format_duration
from heliotrope.vocabulary import Verdict, worst

UNWATCHED = 4
"""A gap between two ticks counts for at most this part of the longest stay: after a jump of the
clock, or a controller that was away, nothing is over before it was looked at this often."""
_WRITTEN = 20
"""The time of a tick is written down when the last one is this part of the longest stay ago."""


def decide(policy: RolloutPolicy, rollout: Rollout, evidence: Evidence, now: datetime) -> Decision:
    """What follows from the evidence.

    A breach (crash, errors, latency, worse with confidence) takes the candidate back at once, from
    any state. A step is left when all that it demands is PASS and its shortest stay is over, and
    given up when its longest stay is. What cannot be read holds everything but that.

    Total and idempotent: the same evidence again changes nothing, since evidence is of one turn.

    Args:
        policy: what the person demands.
        rollout: as it is kept.
        evidence: gathered for it.
        now: UTC.

    Returns:
        The next document, what it changes outside, verdict and reasons, and what it waits for.
    """
    if rollout.over:
        return Decision(rollout=rollout, actions=(), verdict=Verdict.PASS, checks=(), waits=None)
    stay = _longest_stay(policy, rollout)
    watched = _watched(rollout, stay, now)
    if evidence.turn != rollout.turn:
        stale = Check(
            check="alive",
            verdict=Verdict.HOLD,
            text=f"the evidence is of turn {evidence.turn}, the rollout in turn {rollout.turn}",
        )
        return _answer(rollout, watched, (stale,), Waits(text="evidence of this turn"))
    watched = _remember(watched, evidence)
    asked = questions(policy, watched, evidence)
    if any(c.check == "comparison" and c.verdict is Verdict.PASS for c in asked):
        watched = watched.model_copy(update={"better": True})
    after = _next(policy, watched, evidence, asked, now)
    waits = ask.wait(policy, after, evidence, asked, now)
    return _answer(rollout, after, asked, waits)


def questions(policy: RolloutPolicy, rollout: Rollout, evidence: Evidence) -> tuple[Check, ...]:
    """The checks of a state. Those that are not demanded are asked too: a FAIL always counts."""
    state = rollout.effective
    found = [ask.alive(rollout, evidence)]
    if rollout.champion is None or state is RolloutState.PENDING:
        return tuple(found)
    if state is RolloutState.SHADOW:
        found.append(ask.replay(policy, evidence))
        watched = evidence.candidate is not None and evidence.champion is not None
        found.append(ask.latency(policy, evidence, demanded=watched))
        found.append(ask.comparison(policy, rollout, evidence, demanded=True))
        return tuple(found)
    bakes = state is RolloutState.BAKING
    # Who wants neither shadow nor canary gets neither, and has the gate's word alone.
    judged = policy.rollout.shadow.enabled or len(policy.steps) > 1
    last = judged and policy.after(rollout.share) == 100
    found.append(ask.errors(policy, rollout, evidence, demanded=not bakes))
    found.append(ask.latency(policy, evidence, demanded=not bakes))
    found.append(ask.comparison(policy, rollout, evidence, demanded=last and not bakes))
    return tuple(found)


def advance(
    rollout: Rollout, state: RolloutState, share: int, reason: str, now: datetime
) -> Rollout:
    """The document in its next turn."""
    return rollout.model_copy(
        update={
            "state": state,
            "share": share,
            "turn": rollout.turn + 1,
            "entered_at": now,
            "seen_at": now,
            "reason": reason,
            "settled": False,
            "restarts": 0,
            "paused_from": None,
        }
    )


def _next(
    policy: RolloutPolicy,
    rollout: Rollout,
    evidence: Evidence,
    asked: tuple[Check, ...],
    now: datetime,
) -> Rollout:
    failed = [check.text for check in asked if check.verdict is Verdict.FAIL]
    if failed and rollout.champion is not None:
        return advance(rollout, RolloutState.ROLLED_BACK, 0, "; ".join(failed), now)
    if rollout.state is RolloutState.PAUSED:
        return rollout
    newer = _newer(rollout, evidence)
    if newer is not None:
        reason = f"superseded by version {newer}, a newer candidate"
        return advance(rollout, RolloutState.ABORTED, 0, reason, now)
    age = now - rollout.entered_at
    unread = any(check.verdict is Verdict.ERROR for check in asked)
    passed = not unread and all(c.verdict is Verdict.PASS for c in asked if c.demanded)
    if rollout.state is RolloutState.BAKING:
        return _baked(policy, rollout, passed, age, now)
    if passed and age >= _shortest_stay(policy, rollout):
        sent = evidence.replay.sent if evidence.replay else 0
        known = {"replayed": sent, "champion_seen": _champion_seen(rollout, evidence)}
        return _forward(policy, rollout, asked, now).model_copy(update=known)
    if age >= policy.rollout.step_timeout:
        missing = "; ".join(
            c.text
            for c in asked
            if c.verdict is Verdict.ERROR or (c.demanded and c.verdict is Verdict.HOLD)
        )
        reason = f"no verdict within {policy.rollout.step_timeout}: {missing or 'it stood still'}"
        return advance(rollout, RolloutState.ROLLED_BACK, 0, reason, now)
    return rollout


def _champion_seen(rollout: Rollout, evidence: Evidence) -> Health | None:
    found, kept = evidence.champion, rollout.champion_seen
    if found is None or found.requests < ask.MINIMUM_REQUESTS:
        return kept
    return found if kept is None or found.requests >= kept.requests else kept


def _forward(
    policy: RolloutPolicy, rollout: Rollout, asked: tuple[Check, ...], now: datetime
) -> Rollout:
    why = "; ".join(check.text for check in asked if check.verdict is Verdict.PASS)
    if rollout.champion is None:
        reason = f"the first champion of {rollout.model}: {why}"
        return advance(rollout, RolloutState.PROMOTED, 100, reason, now)
    if rollout.state is RolloutState.PENDING and policy.rollout.shadow.enabled:
        return advance(rollout, RolloutState.SHADOW, 0, why, now)
    if rollout.state is RolloutState.FULL:
        return advance(rollout, RolloutState.BAKING, 100, why, now)
    share = policy.after(rollout.share)
    state = RolloutState.FULL if share == 100 else RolloutState.CANARY
    return advance(rollout, state, share, why, now)


def _baked(
    policy: RolloutPolicy, rollout: Rollout, passed: bool, age: timedelta, now: datetime
) -> Rollout:
    if age < policy.rollout.bake:
        return rollout
    if passed:
        reason = f"no breach within the bake time of {format_duration(policy.rollout.bake)}"
        return advance(rollout, RolloutState.PROMOTED, 100, reason, now)
    if age < policy.rollout.bake + policy.rollout.step_timeout:
        return rollout
    # It is champion already: to leave it so changes nothing that anybody could not look at.
    reason = "the bake time is long over, and it could not be seen whether all is well"
    return advance(rollout, RolloutState.PROMOTED, 100, reason, now)


def _newer(rollout: Rollout, evidence: Evidence) -> str | None:
    if rollout.champion is None or rollout.state in CROWNED or evidence.newest is None:
        return None
    return evidence.newest if is_newer(evidence.newest, rollout.candidate) else None


def is_newer(version: str, than: str) -> bool:
    """Whether a version was registered later; versions that are no numbers compare as text."""
    if version.isdigit() and than.isdigit():
        return int(version) > int(than)
    return version > than


def _shortest_stay(policy: RolloutPolicy, rollout: Rollout) -> timedelta:
    live = rollout.state in (RolloutState.CANARY, RolloutState.FULL)
    return policy.rollout.step_minimum if live else timedelta(0)


def _longest_stay(policy: RolloutPolicy, rollout: Rollout) -> timedelta:
    if rollout.state is RolloutState.BAKING:
        return policy.rollout.bake
    return policy.rollout.step_timeout


def _watched(rollout: Rollout, stay: timedelta, now: datetime) -> Rollout:
    """The document with the time that nobody watched taken out of this turn's age."""
    gap = now - rollout.seen_at
    if gap < timedelta(0):
        # The clock went back: the age stays what it was.
        moved = rollout.entered_at + gap
    elif gap > stay / UNWATCHED:
        moved = rollout.entered_at + (gap - stay / UNWATCHED)
    elif gap >= stay / _WRITTEN:
        moved = rollout.entered_at
    else:
        return rollout
    if rollout.state is RolloutState.PAUSED:
        moved = rollout.entered_at
    opened = min(rollout.opened_at, now)
    return rollout.model_copy(update={"entered_at": moved, "seen_at": now, "opened_at": opened})


def _remember(rollout: Rollout, evidence: Evidence) -> Rollout:
    serving = evidence.serving
    if rollout.settled or serving is None or not serving.settled:
        return rollout
    there = serving.revision(rollout.candidate)
    if (
        there is None
        or not there.ready
        or serving.weights.get(rollout.candidate, 0)
        != (100 if rollout.champion is None else rollout.share)
    ):
        return rollout
    return rollout.model_copy(update={"settled": True, "restarts": there.restarts})


def _answer(
    before: Rollout, after: Rollout, asked: tuple[Check, ...], waits: Waits | None
) -> Decision:
    counted = [c.verdict for c in asked if c.demanded or c.verdict is not Verdict.HOLD]
    return Decision(
        rollout=after,
        actions=actions_between(before, after),
        verdict=worst(counted),
        checks=asked,
        waits=waits,
    )
