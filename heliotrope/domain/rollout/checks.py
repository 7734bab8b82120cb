"""The questions a rollout is judged by. No data is HOLD, what cannot be read is ERROR."""

import math
from datetime import datetime, timedelta

from heliotrope.domain.rollout.documents import Check, Rollout, Waits
from heliotrope.domain.rollout.evidence import Comparison, Evidence, Health
from heliotrope.domain.rollout.policy import RolloutPolicy
from heliotrope.domain.rollout.rates import log_e_rate_above
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.vocabulary import Verdict

HEALTH_ALPHA = 0.01
"""Chance that a version within its limits is taken for one beyond, a question and turn."""
MINIMUM_REQUESTS = 30
"""Requests of a turn before it can be called healthy."""
LATENCY_FLOOR = 0.01
"""Seconds. A p99 below is never too slow: there, the machine's own noise is most of it."""
SLOW_SHARE = 0.01
"""What lies beyond a p99, by definition."""
CRASH_LOOP = 3
"""Restarts after which a candidate without users is given up."""


def alive(rollout: Rollout, evidence: Evidence) -> Check:
    """Is the candidate there, ready, and has it stayed so?"""

    def say(verdict: Verdict, text: str) -> Check:
        return Check(check="alive", verdict=verdict, text=text)

    who = f"version {rollout.candidate}"
    broken = evidence.broken.get("serving")
    if broken is not None:
        return say(Verdict.ERROR, f"what is served could not be read: {broken}")
    there = evidence.serving.revision(rollout.candidate) if evidence.serving else None
    exposed = rollout.live and rollout.settled
    if there is None:
        if exposed:
            return say(Verdict.FAIL, f"{who} has users and is gone")
        return say(Verdict.HOLD, f"{who} was not started yet")
    why = f": {there.message}" if there.message else ""
    crashes = there.restarts - (rollout.restarts if rollout.settled else 0)
    if exposed and crashes > 0:
        return say(Verdict.FAIL, f"{who} crashed {crashes} time(s) with users on it{why}")
    if crashes >= CRASH_LOOP:
        return say(Verdict.FAIL, f"{who} crashed {crashes} times{why}")
    if not there.ready:
        if exposed:
            return say(Verdict.FAIL, f"{who} has users and is not ready{why}")
        return say(Verdict.HOLD, f"{who} is not ready{why}")
    if evidence.serving is not None and not evidence.serving.settled:
        return say(Verdict.HOLD, f"{who} is ready; the plan is still being carried out")
    return say(Verdict.PASS, f"{who} is ready")


def errors(policy: RolloutPolicy, rollout: Rollout, evidence: Evidence, demanded: bool) -> Check:
    """Does it answer?"""

    def say(verdict: Verdict, text: str) -> Check:
        return Check(check="errors", verdict=verdict, text=text, demanded=demanded)

    broken = evidence.broken.get("traffic")
    if broken is not None:
        return say(Verdict.ERROR, f"its traffic could not be read: {broken}")
    health = evidence.candidate
    if health is None or health.requests == 0:
        return say(Verdict.HOLD, "no live requests yet")
    limit = policy.rollout.max_error_rate
    shown = f"{health.errors:,} of {health.requests:,} requests failed"
    if log_e_rate_above(health.errors, health.requests, limit) >= -math.log(HEALTH_ALPHA):
        return say(Verdict.FAIL, f"{shown}: surely more than {limit:.2%}")
    live = health.requests - _asked_again(rollout, evidence)
    if live < MINIMUM_REQUESTS:
        text = f"{shown}; {max(live, 0)} users' requests of {MINIMUM_REQUESTS} needed to say"
        return say(Verdict.HOLD, text)
    if health.errors > limit * health.requests:
        return say(Verdict.HOLD, f"{shown}: more than {limit:.2%}, perhaps by chance")
    return say(Verdict.PASS, f"{shown}, of at most {limit:.2%}")


def _asked_again(rollout: Rollout, evidence: Evidence) -> int:
    """Requests of this turn that were replayed to the candidate; it counts them like any other."""
    if rollout.effective is not RolloutState.CANARY or evidence.replay is None:
        return 0
    return max(0, evidence.replay.sent - rollout.replayed)


def latency(policy: RolloutPolicy, evidence: Evidence, demanded: bool) -> Check:
    """Is it quick enough?"""

    def say(verdict: Verdict, text: str) -> Check:
        return Check(check="latency", verdict=verdict, text=text, demanded=demanded)

    broken = evidence.broken.get("traffic")
    if broken is not None:
        return say(Verdict.ERROR, f"its traffic could not be read: {broken}")
    mine, other = evidence.candidate, evidence.champion
    for who, health in (("the candidate", mine), ("the champion", other)):
        count = health.requests if health else 0
        if count < MINIMUM_REQUESTS:
            return say(Verdict.HOLD, f"{count} requests of {who}, of {MINIMUM_REQUESTS} needed")
    if mine is None or other is None:
        raise AssertionError("counted above")
    ratio = policy.rollout.max_latency_ratio
    limit = max(ratio * other.p99_seconds, LATENCY_FLOOR)
    shown = (
        f"p99 {mine.p99_seconds * 1e3:.1f} ms, the champion's {other.p99_seconds * 1e3:.1f} ms, "
        f"limit {limit * 1e3:.1f} ms ({ratio:g} times, at least {LATENCY_FLOOR * 1e3:g} ms)"
    )
    if not math.isfinite(limit) or not math.isfinite(mine.p99_seconds):
        return say(Verdict.HOLD, f"{shown}: a quantile is not known")
    if _surely_slow(mine, limit):
        return say(Verdict.FAIL, f"{shown}: surely too slow")
    if mine.p99_seconds > limit:
        return say(Verdict.HOLD, f"{shown}: too slow, perhaps by chance")
    return say(Verdict.PASS, shown)


def _surely_slow(health: Health, limit: float) -> bool:
    if not health.latency:
        return health.requests >= 10 / SLOW_SHARE and health.p99_seconds > limit
    # Buckets that the limit divides are left with the quick ones.
    slow = sum(count for above, count in health.latency if above >= limit)
    total = sum(count for _, count in health.latency)
    return log_e_rate_above(slow, total, SLOW_SHARE) >= -math.log(HEALTH_ALPHA)


def replay(policy: RolloutPolicy, evidence: Evidence) -> Check:
    """Does it answer what the champion answered?"""

    def say(verdict: Verdict, text: str) -> Check:
        return Check(check="replay", verdict=verdict, text=text)

    broken = evidence.broken.get("replay")
    if broken is not None:
        return say(Verdict.ERROR, f"the log could not be replayed: {broken}")
    seen = evidence.replay
    if seen is None or seen.sent == 0:
        return say(Verdict.HOLD, "no logged request was asked again yet")
    limit = policy.rollout.max_error_rate
    parts = ((seen.errors, "failed"), (seen.refused, "refused"), (seen.unusable, "without a score"))
    told = ", ".join(f"{count:,} {what}" for count, what in parts if count) or "none failed"
    shown = f"{seen.sent:,} logged requests asked again, {told}"
    if log_e_rate_above(seen.failed, seen.sent, limit) >= -math.log(HEALTH_ALPHA):
        last = f"; last: {seen.note}" if seen.note else ""
        return say(Verdict.FAIL, f"{shown}: surely more than {limit:.2%}{last}")
    if seen.sent < MINIMUM_REQUESTS:
        return say(Verdict.HOLD, f"{shown}; {MINIMUM_REQUESTS} are needed to say")
    if seen.failed > limit * seen.sent:
        return say(Verdict.HOLD, f"{shown}: more than {limit:.2%}, perhaps by chance")
    if seen.backlog:
        return say(Verdict.HOLD, f"{shown}; {seen.backlog:,} of the backfill are still to be asked")
    return say(Verdict.PASS, shown)


def comparison(
    policy: RolloutPolicy, rollout: Rollout, evidence: Evidence, demanded: bool
) -> Check:
    """Is it better, or no worse than is tolerated, with confidence?"""

    def say(verdict: Verdict, text: str) -> Check:
        return Check(check="comparison", verdict=verdict, text=text, demanded=demanded)

    broken = evidence.broken.get("outcomes")
    if broken is not None:
        return say(Verdict.ERROR, f"labelled outcomes could not be read: {broken}")
    seen, minimum = evidence.comparison, policy.rollout.shadow.minimum_labels
    if seen is None or seen.labelled == 0:
        if rollout.better:
            return say(Verdict.PASS, "was shown on this rollout's way; no labels since")
        count = seen.pairs if seen else 0
        text = f"0 of {minimum:,} labels; {count:,} requests answered by both"
        return say(Verdict.HOLD, text)
    wanted = -math.log(policy.alpha)
    shown = (
        f"gain {seen.gain:+.4f} [{seen.low:+.4f}, {seen.high:+.4f}] over {seen.labelled:,} "
        f"{'pairs' if seen.paired else 'unpaired blocks'} with labels ({seen.loss})"
    )
    bound = f"{seen.bound:+.4f}"
    if seen.log_e_worse >= wanted:
        return say(Verdict.FAIL, f"{shown}: below {bound}, at {policy.gates.confidence:.0%}")
    if rollout.better:
        return say(Verdict.PASS, f"{shown}: was shown to be above {bound}")
    if seen.labelled < minimum:
        return say(Verdict.HOLD, f"{shown}; {minimum - seen.labelled:,} more labels are needed")
    if seen.log_e_better >= wanted:
        return say(Verdict.PASS, f"{shown}: above {bound}, at {policy.gates.confidence:.0%}")
    return say(Verdict.HOLD, f"{shown}: not yet shown to be above {bound}")


def labels_to_wait_for(policy: RolloutPolicy, seen: Comparison | None) -> int | None:
    """How many more labels a PASS needs if they go on like those so far; None if it cannot be told.

    The wealth grows by `growth` a label, so what is missing to 1/alpha takes so many.
    """
    minimum = policy.rollout.shadow.minimum_labels
    if seen is None:
        return minimum
    short = max(0, minimum - seen.labelled)
    missing = -math.log(policy.alpha) - seen.log_e_better
    if missing <= 0 or seen.labelled == 0:
        return short
    if seen.growth <= 0:
        return None
    return max(short, math.ceil(missing / seen.growth))


def wait(
    policy: RolloutPolicy,
    rollout: Rollout,
    evidence: Evidence,
    checks: tuple[Check, ...],
    now: datetime,
) -> Waits | None:
    """What it waits for, in words and, where it is labels, in numbers."""
    if rollout.over:
        return None
    if rollout.state is RolloutState.PAUSED:
        return Waits(text="a person to resume it")
    if rollout.state is RolloutState.BAKING:
        baked = rollout.entered_at + policy.rollout.bake
        return Waits(text=f"the bake time, until {baked:%Y-%m-%d %H:%M} UTC", until=baked)
    deadline = rollout.entered_at + policy.rollout.step_timeout
    open_checks = [c for c in checks if c.demanded and c.verdict is not Verdict.PASS]
    if not open_checks:
        over = rollout.entered_at + policy.rollout.step_minimum
        return Waits(text="the shortest stay on this step", until=over)
    if all(check.check != "comparison" for check in open_checks):
        return Waits(text="; ".join(check.text for check in open_checks), until=deadline)
    labels = labels_to_wait_for(policy, evidence.comparison)
    rest = [check.text for check in open_checks if check.check != "comparison"]
    seen = evidence.comparison
    if labels is None:
        text = "labels; as they have come so far, no number of them would show it"
        return Waits(text="; ".join([text, *rest]), until=deadline)
    rate = seen.label_rate if seen else math.nan
    until: datetime | None = None
    if math.isfinite(rate) and rate > 0 and labels / rate < 24 * 36500:
        until = now + timedelta(hours=labels / rate)
    pace = f", {rate:,.0f} an hour" if until else ""
    text = f"about {labels:,} more labels{pace}"
    if until is not None and until > deadline:
        text += f", which is after the step's end at {deadline:%Y-%m-%d %H:%M} UTC"
    return Waits(text="; ".join([text, *rest]), labels=labels, until=until)
