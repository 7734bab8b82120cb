"""Knative mode: one predictor, whose every change is a revision, and `canaryTrafficPercent`.

Read in KServe's controller. Traffic is `latest: P, rolled out: 100 - P`. The rolled-out revision
becomes the latest one when that has exactly 100 per cent; where it is lowered again afterwards, the
revision before it is rolled out again, so that a promotion can be taken back by one number. Without
a number the latest revision has all traffic, or, while it is not ready, the last that was: a
number must therefore never be taken away before the latest revision is ready.

A version without a route has no address and falls asleep, but the former champion must stay awake
and be asked for as long as the new one may be taken back. So once the new one is rolled out, the
former one becomes the latest revision, at 0: a fresh one of the same version. What is left when
the plan names one version is brought back to one revision, fresh again, without a request lost.
"""

from heliotrope.adapters.inference_service import (
    KeptPlan,
    Object,
    Seen,
    ServedAs,
    View,
    first_of,
    inference_service,
    predictor,
    require_two,
    version_of,
)

PERCENT = "canaryTrafficPercent"
_REVISIONS = (
    "latestCreatedRevision", "latestReadyRevision", "latestRolledoutRevision",
    "previousRolledoutRevision",
)  # fmt: skip


def revisions_of(isvc: Object) -> frozenset[str]:
    """Names of the revisions that a status speaks of."""
    said = ((isvc.get("status") or {}).get("components") or {}).get("predictor") or {}
    named = {str(said[key]) for key in _REVISIONS if said.get(key)}
    return frozenset(
        named
        | {str(one["revisionName"]) for one in said.get("traffic") or [] if "revisionName" in one}
    )


def next_knative(kept: KeptPlan, values: ServedAs, seen: Seen) -> Object:
    """The object to ask for now; once it is the plan's own, asking again changes nothing."""
    require_two(kept.plan)
    version, percent = _step(kept, _State(seen))
    return _made(kept, values, version, percent, seen)


class _State:
    """Where things stand."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        spec = seen.spec.get("predictor") or {}
        self.template = version_of(spec)
        self.percent: int | None = spec.get(PERCENT)
        said = (seen.status.get("components") or {}).get("predictor") or {}
        self.created = str(said.get("latestCreatedRevision") or "")
        self.latest = str(said.get("latestReadyRevision") or "")
        self.rolled = str(said.get("latestRolledoutRevision") or "")
        self.before = str(said.get("previousRolledoutRevision") or "")
        self.traffic: list[Object] = said.get("traffic") or []

    def version(self, revision: str) -> str | None:
        """Of a revision."""
        facts = self.seen.revisions.get(revision)
        return facts.version if facts else None

    @property
    def stands(self) -> bool:
        """The latest revision runs what the template asks for, and can take requests."""
        facts = self.seen.revisions.get(self.created)
        return (
            self.created == self.latest
            and facts is not None
            and facts.ready
            and facts.version == self.template
        )

    @property
    def fresh(self) -> bool:
        """KServe has acted on the spec."""
        if self.version(self.created) != self.template:
            return False
        shares = [one.get("percent") or 0 for one in self.traffic if one.get("latestRevision")]
        return shares == [100 if self.percent is None or not self.rolled else self.percent]


def _step(kept: KeptPlan, now: _State) -> tuple[str, int | None]:
    """The template's version and its number."""
    plan, goal = kept.plan, first_of(kept.plan)
    wanted = {revision.version for revision in plan.revisions}
    base = now.version(now.rolled)
    if now.template is None or base is None:
        return goal, None
    if base in wanted:
        other = next(iter(wanted - {base}), None)
        return (
            _settle(now, base) if other is None else _share(now, other, plan.weights.get(other, 0))
        )
    if base == now.template and now.version(now.before) == goal and now.percent in (0, 100, None):
        # To lower the number rolls out again what was before, which needs no new revision.
        return base, 0
    return _share(now, goal, 100)


def _settle(now: _State, base: str) -> tuple[str, int | None]:
    """One version, which has the traffic already: whatever is beside it goes."""
    template = now.template or base
    if template == base:
        # The number may go when it says 100 already, or when what is latest can take the traffic.
        return template, None if now.percent is None or now.stands else now.percent
    if now.percent != 0:
        return template, 0
    return (base, 0) if now.fresh and template in now.seen.idle else (template, 0)


def _share(now: _State, version: str, share: int) -> tuple[str, int | None]:
    """A version beside the one that is rolled out, with a share once it is ready."""
    template, percent = now.template or version, now.percent
    if template == version:
        held = 100 if percent is None else percent
        return version, share if now.stands else min(share, held)
    base = now.version(now.rolled)
    if template != base and not (percent == 0 and now.fresh and template in now.seen.idle):
        return template, 0
    return version, 0


def view_knative(seen: Seen) -> View:
    """What is there, from the spec, what KServe says of it, and the pods."""
    now = _State(seen)
    if seen.isvc is None or now.template is None:
        return View((), frozenset(), {}, {}, fresh=False)
    weights: dict[str, int] = {}
    addresses: dict[str, str | None] = {now.template: None}
    for one in now.traffic:
        version = now.version(str(one.get("revisionName")))
        if version is None:
            continue
        share = int(one.get("percent") or 0)
        if share:
            weights[version] = weights.get(version, 0) + share
        # Until what is latest is ready, its address leads to the one before.
        theirs = not one.get("latestRevision") or version == now.template
        addresses[version] = addresses.get(version) or (_url(one.get("url")) if theirs else None)
    routed, _ = seen.condition("PredictorRouteReady")
    ready = frozenset(version for version in addresses if _is_ready(now, version))
    kept = {v: url if v in ready else None for v, url in addresses.items()}
    return View(tuple(addresses), ready, kept, weights if routed else {}, now.fresh)


def _is_ready(now: _State, version: str) -> bool:
    """A revision of it has a route and can take requests; one without a route does not count."""
    routed = {str(one.get("revisionName")) for one in now.traffic if not one.get("latestRevision")}
    routed |= {now.created} if now.stands else set()
    facts = [now.seen.revisions[name] for name in routed if name in now.seen.revisions]
    pods = now.seen.pods.get(version)
    # Without pods it is asleep, and wakes at the first request.
    return any(one.ready and one.version == version for one in facts) and (
        pods is None or bool(pods.ready)
    )


def _url(found: object) -> str | None:
    return str(found).rstrip("/") if found else None


def _made(
    kept: KeptPlan, values: ServedAs, version: str, percent: int | None, seen: Seen
) -> Object:
    uris = dict(kept.uris)
    if version not in uris:
        uris[version] = str(seen.spec["predictor"]["model"]["storageUri"])
    body = predictor(kept.plan.model, version, uris[version], values, values.replicas)
    # An explicit null removes it, whoever set it.
    body[PERCENT] = percent
    return inference_service(kept.plan.model, values, {"predictor": body})
