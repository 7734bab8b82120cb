"""Standard mode: a stable predictor and `spec.canary[]` beside it, each a Deployment of its own.

Read in KServe's controller: a canary's Service and Deployment keep their names when it becomes the
stable predictor, so that its pods stay; the former one's are deleted in the same round, *before*
the new stable one is scaled up. So a canary is brought to all of the traffic, with all of its
replicas, before it is promoted. A canary gets traffic once it is ready. Ready canaries are
subtracted from the stable predictor's minReplicas even without traffic, so they are added to it
first: for a while there is a pod more than need be, and never one less.
"""

import math
from collections.abc import Callable, Mapping

from heliotrope.adapters.inference_service import (
    KeptPlan,
    Object,
    Seen,
    ServedAs,
    View,
    first_of,
    inference_service,
    predictor,
    service_name,
    version_of,
)

ServiceUrl = Callable[[str, str], str]
"""Base URL of a Service, by its name and namespace."""


def next_standard(kept: KeptPlan, values: ServedAs, seen: Seen) -> Object:
    """The object to ask for now; once it is the plan's own, asking again changes nothing."""
    plan = kept.plan
    stable = version_of(seen.spec.get("predictor") or {})
    if stable is None:
        stable = first_of(plan)
        return _made(kept, values, stable, {v: 0 for v in _versions(kept) if v != stable})
    now, goal = _canaries(seen), first_of(plan)
    if stable in _versions(kept):
        shares = {v: plan.weights.get(v, 0) for v in _versions(kept) if v != stable}
        return _made(
            kept, values, stable, _allowed(shares, now, seen) | _leaving(kept, now, seen),
            _uris_of(seen),
        )  # fmt: skip
    if _may_be_promoted(goal, values, now, seen):
        return _made(kept, values, goal, {v: 0 for v in _versions(kept) if v != goal})
    shares = {v: 100 if v == goal else 0 for v in _versions(kept)}
    return _made(
        kept,
        values,
        stable,
        _allowed(shares, now, seen) | _leaving(kept, now, seen),
        _uris_of(seen),
    )


def view_standard(seen: Seen, namespace: str, service_url: ServiceUrl) -> View:
    """What is there, from the spec, what KServe says of it, and the pods."""
    stable = version_of(seen.spec.get("predictor") or {})
    if seen.isvc is None or stable is None:
        return View((), frozenset(), {}, {}, fresh=False)
    model = str(seen.isvc["metadata"]["name"])
    said = _said(seen)
    versions = (stable, *(v for v in _canaries(seen) if v != stable))
    up, _ = seen.condition("PredictorReady")
    ready = frozenset(
        v
        for v in versions
        if seen.pods.get(v)
        and seen.pods[v].ready
        and (up if v == stable else said.get(v, (0, 0))[1])
    )
    addresses = {
        v: service_url(service_name(model, v), namespace) if v in ready else None for v in versions
    }
    routed, _ = seen.condition("IngressReady")
    weights: dict[str, int] = {}
    if routed and seen.gateway:
        weights = {v: share for v, (share, is_ready) in said.items() if is_ready and share}
        rest = 100 - sum(weights.values())
        if rest > 0:
            weights[stable] = weights.get(stable, 0) + rest
    return View(versions, ready, addresses, weights, _is_fresh(seen))


def _made(
    kept: KeptPlan,
    values: ServedAs,
    stable: str,
    shares: Mapping[str, int],
    uris: Mapping[str, str] | None = None,
) -> Object:
    plan, known = kept.plan, {**(uris or {}), **kept.uris}

    def pods(share: int) -> int:
        return max(1, math.ceil(values.replicas * share / 100))

    canaries: list[Object] = [
        {
            "predictor": predictor(plan.model, v, known[v], values, pods(share)),
            "trafficPercent": share,
        }
        for v, share in shares.items()
    ]
    # What KServe takes off again for canaries that are ready; it always leaves one.
    extra = sum(pods(share) for share in shares.values()) if values.replicas > 1 else 0
    least = values.replicas + extra
    body = predictor(plan.model, stable, known[stable], values, least)
    return inference_service(plan.model, values, {"predictor": body, "canary": canaries})


def _versions(kept: KeptPlan) -> tuple[str, ...]:
    return tuple(revision.version for revision in kept.plan.revisions)


def _canaries(seen: Seen) -> dict[str, int]:
    """Asked for: per cent by version."""
    found = {}
    for one in seen.spec.get("canary") or []:
        version = version_of(one["predictor"])
        if version is not None:
            found[version] = int(one["trafficPercent"])
    return found


def _said(seen: Seen) -> dict[str, tuple[int, bool]]:
    """By KServe: per cent, and whether it is ready, by version."""
    return {
        str(one["name"]).removeprefix("v"): (int(one["trafficPercent"]), bool(one["ready"]))
        for one in seen.status.get("canaryStatuses") or []
    }


def _is_fresh(seen: Seen) -> bool:
    return {v: share for v, (share, _) in _said(seen).items()} == _canaries(seen)


def _allowed(wanted: Mapping[str, int], now: Mapping[str, int], seen: Seen) -> dict[str, int]:
    """Shares that may be asked for: less at once, more only for a version that is ready."""
    said = _said(seen)
    return {
        v: share if said.get(v, (0, False))[1] else min(share, now.get(v, 0))
        for v, share in wanted.items()
    }


def _leaving(kept: KeptPlan, now: Mapping[str, int], seen: Seen) -> dict[str, int]:
    """Canaries that the plan does not name: without traffic first, then gone."""
    said, fresh = _said(seen), _is_fresh(seen)
    gone = {v for v, share in now.items() if share == 0 and fresh and v in said and v in seen.idle}
    return {v: 0 for v in now if v not in _versions(kept) and v not in gone}


def _uris_of(seen: Seen) -> dict[str, str]:
    """Of what runs, whether the plan names it or not."""
    parts = [seen.spec.get("predictor") or {}]
    parts += [one["predictor"] for one in seen.spec.get("canary") or []]
    return {
        version: str(part["model"]["storageUri"]) for part in parts if (version := version_of(part))
    }


def _may_be_promoted(goal: str, values: ServedAs, now: Mapping[str, int], seen: Seen) -> bool:
    """It has all of the traffic, and has had it since KServe last looked, on all of its pods."""
    share, ready = _said(seen).get(goal, (0, False))
    pods = seen.pods.get(goal)
    enough = pods is not None and len(pods.ready) >= values.replicas
    former = version_of(seen.spec["predictor"])
    return (
        now.get(goal) == 100 == share and ready and enough and _is_fresh(seen)
        and former in seen.idle
    )  # fmt: skip
