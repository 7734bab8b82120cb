"""What a rollout wants of serving and of the registry: functions of the document alone.

They are worked out again in every tick, so that whatever a crash left undone is done by the next.
"""

from heliotrope.domain.rollout.documents import Action, PointAlias, Rollout, SetTraffic
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.domain.serving_plan import Revision, ServingPlan
from heliotrope.vocabulary import Role

_ROLE_OF_CANDIDATE = {
    RolloutState.PENDING: Role.SHADOW,
    RolloutState.SHADOW: Role.SHADOW,
    RolloutState.CANARY: Role.CANARY,
    RolloutState.FULL: Role.CANARY,
    RolloutState.BAKING: Role.CHAMPION,
}


def wanted_plan(rollout: Rollout) -> ServingPlan:
    """Revisions and shares; after the end only the version that is champion."""

    def plan(weights: dict[str, int], *revisions: Revision) -> ServingPlan:
        return ServingPlan(
            model=rollout.model,
            revisions=revisions,
            weights=weights,
            at=rollout.entered_at,
            reason=f"rollout {rollout.number} {rollout.state}: {rollout.reason}",
        )

    champion, candidate = rollout.champion, rollout.candidate
    if champion is None or (rollout.over and rollout.crowned):
        return plan({candidate: 100}, Revision(version=candidate, role=Role.CHAMPION))
    if rollout.over:
        return plan({champion: 100}, Revision(version=champion, role=Role.CHAMPION))
    # Without users it is a shadow: the newer one's log is replayed to it, to go on comparing.
    before = Role.SHADOW if rollout.share == 100 else Role.CHAMPION
    return plan(
        {champion: 100 - rollout.share, candidate: rollout.share},
        Revision(version=champion, role=before),
        Revision(version=candidate, role=_ROLE_OF_CANDIDATE[rollout.effective]),
    )


def wanted_champion(rollout: Rollout) -> str:
    """The version that the champion alias must name."""
    if rollout.crowned or rollout.champion is None:
        return rollout.candidate
    return rollout.champion


def same_plan(one: ServingPlan | None, other: ServingPlan) -> bool:
    """Whether two plans ask for the same; when and why they were made aside."""
    return (
        one is not None
        and set(one.revisions) == set(other.revisions)
        and _positive(one) == _positive(other)
    )


def actions_between(before: Rollout | None, after: Rollout) -> tuple[Action, ...]:
    """What changes outside from one document to the next."""
    wanted, crown = wanted_plan(after), wanted_champion(after)
    found: list[Action] = []
    if before is None or not same_plan(wanted_plan(before), wanted):
        found.append(SetTraffic(weights=wanted.weights))
    if before is not None and wanted_champion(before) != crown:
        found.append(PointAlias(version=crown))
    return tuple(found)


def _positive(plan: ServingPlan) -> dict[str, int]:
    return {version: weight for version, weight in plan.weights.items() if weight}
