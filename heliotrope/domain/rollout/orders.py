"""What a person may order of a rollout."""

from datetime import datetime
from enum import StrEnum

from heliotrope.domain.rollout.documents import Rollout
from heliotrope.domain.rollout.machine import advance
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.domain.serving_plan import ObservedServing
from heliotrope.errors import UsageError


class Order(StrEnum):
    """Orders."""

    PAUSE = "pause"
    """Stop the clock; shares stay, and a breach still takes the candidate back."""
    RESUME = "resume"
    """Go on from where it was paused; the step begins anew."""
    ABORT = "abort"
    """Take the candidate back."""
    PROMOTE = "promote"
    """Make it champion now, without the evidence; the old champion stays warm as ever."""


def obey(
    order: Order,
    rollout: Rollout,
    serving: ObservedServing | None,
    person: str,
    why: str,
    now: datetime,
) -> Rollout:
    """The rollout after a person's order.

    Args:
        order: what to do.
        rollout: as it is kept.
        serving: what runs, for `PROMOTE`.
        person: who ordered it.
        why: in the person's words; may be empty.
        now: UTC.

    Raises:
        UsageError: the order makes no sense in this state, or would send users to a version that
            is not ready.
    """
    told = f"by {person}" + (f": {why}" if why else "")
    if rollout.over:
        raise _refused(order, rollout, "be given while the rollout is under way")
    if order is Order.PAUSE:
        if rollout.state is RolloutState.PAUSED:
            raise _refused(order, rollout, "be given to one that is not paused")
        return rollout.model_copy(
            update={
                "state": RolloutState.PAUSED,
                "paused_from": rollout.state,
                "reason": f"paused {told}",
                "seen_at": now,
            }
        )
    if order is Order.RESUME:
        if rollout.paused_from is None:
            raise _refused(order, rollout, "be given to one that is paused")
        state, reason = rollout.paused_from, f"resumed {told}"
        return advance(rollout, state, rollout.share, reason, now)
    if rollout.champion is None:
        raise _refused(order, rollout, "be of a candidate that follows a champion")
    if order is Order.ABORT:
        return advance(rollout, RolloutState.ABORTED, 0, f"aborted {told}", now)
    return _promote(rollout, serving, person, told, now)


def _promote(
    rollout: Rollout, serving: ObservedServing | None, person: str, told: str, now: datetime
) -> Rollout:
    there = serving.revision(rollout.candidate) if serving is not None else None
    if there is None or not there.ready:
        state = "not running" if there is None else f"not ready {there.message}".strip()
        raise UsageError(
            f"promote must be of a version that is ready. Version {rollout.candidate} of "
            f"{rollout.model} is {state}."
        )
    if rollout.crowned:
        raise _refused(Order.PROMOTE, rollout, "be of a candidate that is not champion yet")
    forced = rollout.model_copy(update={"forced_by": person})
    return advance(forced, RolloutState.BAKING, 100, f"promoted by force {told}", now)


def _refused(order: Order, rollout: Rollout, must: str) -> UsageError:
    return UsageError(
        f"{order} must {must}. Rollout {rollout.number} of {rollout.model} is {rollout.state}."
    )
