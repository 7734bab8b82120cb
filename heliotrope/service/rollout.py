"""Rollouts as they happen: gather, decide, write down, then do. The one mover of traffic and alias.

Every tick works out what the stored document wants of serving and of the registry, and asks for
it where it is not so. So a tick may be killed anywhere: what was decided is stored with its reason
before anything is done, and what was not done is done by the next.
"""

from dataclasses import dataclass
from datetime import datetime

from heliotrope.domain.lineage import Lineage
from heliotrope.domain.rollout.documents import Decision, Rollout
from heliotrope.domain.rollout.evidence import Evidence
from heliotrope.domain.rollout.loss import scale_of_errors
from heliotrope.domain.rollout.machine import decide, is_newer
from heliotrope.domain.rollout.orders import Order, obey
from heliotrope.domain.rollout.plan import (
    actions_between,
    same_plan,
    wanted_champion,
    wanted_plan,
)
from heliotrope.domain.rollout.policy import RolloutPolicy
from heliotrope.domain.serving_plan import Revision, ServingPlan
from heliotrope.domain.training import TrainingRecord
from heliotrope.errors import HeliotropeError, NotFoundError
from heliotrope.ports.registry import RegisteredVersion, Registry
from heliotrope.ports.serving import Serving
from heliotrope.ports.state import StateStore
from heliotrope.service.rollout_gathering import Gatherer, Sources
from heliotrope.service.rollout_keeping import KeptRollout, RolloutBook
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import (
    ALIAS_CHAMPION,
    ARTIFACT_LINEAGE,
    ARTIFACT_TRAINING_FILE,
    Role,
)


@dataclass(frozen=True)
class Ticked:
    """What a tick came to."""

    rollout: Rollout | None
    """None where the model was never served and has nothing to serve."""
    decision: Decision | None = None
    """None where there was nothing to decide."""
    evidence: Evidence | None = None


class RolloutService:
    """Moves the rollouts of any number of models.

    Args:
        state: keeps documents and the decision log.
        sources: what evidence is gathered from and effects go to.
        gatherer: gathers it; made from the sources when left out.
    """

    def __init__(
        self, state: StateStore, sources: Sources, gatherer: Gatherer | None = None
    ) -> None:
        self.book = RolloutBook(state)
        self._serving: Serving = sources.serving
        self._registry: Registry = sources.registry
        self._gatherer = gatherer or Gatherer(sources)
        self._alias_seen: dict[str, tuple[str, float]] = {}

    def tick(self, spec: ModelSpec, now: datetime) -> Ticked:
        """One tick of one model.

        Raises:
            UnavailableError: the state does not answer, or an effect could not be had yet; what
                was decided stands and is done by a later tick.
            ConflictError: a person or another controller moved the rollout just now.
        """
        kept = self.book.latest(spec.name)
        if kept is None or kept.rollout.concluded:
            return self._idle(spec, kept, now)
        if kept.rollout.over:
            return self._conclude(kept, now)
        # What a crash left undone, first; a breach must still be seen where that cannot be had.
        failure = self._enforce(kept.rollout)
        evidence = self._gatherer.gather(spec, kept.rollout, now)
        decision = decide(RolloutPolicy.of(spec), kept.rollout, evidence, now)
        if decision.rollout != kept.rollout:
            kept = self.book.write(
                kept,
                decision.rollout,
                now,
                actions=decision.actions,
                checks=decision.checks,
                evidence=evidence,
            )
            failure = self._enforce(kept.rollout)
        self.book.judge(kept.rollout, decision, evidence, now)
        if failure is not None:
            raise failure
        return Ticked(kept.rollout, decision, evidence)

    def open_rollout(
        self, spec: ModelSpec, version: str, cause: str, now: datetime
    ) -> Rollout | None:
        """Open a version's rollout; the one it has, where there is one already.

        Answers None while another one is under way: its next tick decides whether this version
        takes its place, and then opens it.

        Raises:
            NotFoundError: there is no such version.
            ConflictError: another process opened one just now.
        """
        every = self.book.all(spec.name)
        known = next((k.rollout for k in every if k.rollout.candidate == version), None)
        if known is not None:
            return known
        if every and not every[0].rollout.over:
            return None
        champion = self._registry.by_alias(spec.name, ALIAS_CHAMPION)
        follows = champion if champion and champion.version != version else None
        found = self._registry.version(spec.name, version)
        rollout = Rollout(
            model=spec.name,
            number=every[0].rollout.number + 1 if every else 1,
            candidate=version,
            champion=follows.version if follows else None,
            cause=cause,
            opened_at=now,
            entered_at=now,
            seen_at=now,
            reason=f"opened: {cause}",
            trained_until=self._trained_until(found),
            error_scale=scale_of_errors(spec, (follows or found).metrics),
        )
        self.book.write(None, rollout, now, actions=actions_between(None, rollout))
        return rollout

    def order(self, model: str, order: Order, person: str, why: str, now: datetime) -> Rollout:
        """A person's order, written down and carried out.

        Raises:
            NotFoundError: the model has no rollout.
            UsageError: the order makes no sense now.
            ConflictError: the rollout moved meanwhile; look again.
            UnavailableError: it is written down, and is carried out once the platform answers.
        """
        kept = self.book.latest(model)
        if kept is None:
            raise NotFoundError(f"{model} must have a rollout. Got none; train a second version.")
        serving = self._serving.observe(model) if order is Order.PROMOTE else None
        after = obey(order, kept.rollout, serving, person, why, now)
        actions = actions_between(kept.rollout, after)
        kept = self.book.write(kept, after, now, actor=f"person:{person}", actions=actions)
        failure = self._enforce(kept.rollout)
        if failure is not None:
            raise failure
        return kept.rollout

    def enforce(self, rollout: Rollout) -> None:
        """Ask serving and the registry for what a rollout wants, where it is not so.

        Raises:
            UnavailableError: one of them does not answer; the other was asked all the same.
        """
        failure = self._enforce(rollout)
        if failure is not None:
            raise failure

    def _enforce(self, rollout: Rollout) -> Exception | None:
        failure: Exception | None = None
        # Traffic first: users feel it, the alias is only read.
        for effect in (self._apply_plan, self._point_alias):
            try:
                effect(rollout)
            except HeliotropeError as error:
                failure = failure or error
        return failure

    def _apply_plan(self, rollout: Rollout) -> None:
        wanted = wanted_plan(rollout)
        if not same_plan(self._serving.plan(rollout.model), wanted):
            self._serving.apply(wanted)

    def _point_alias(self, rollout: Rollout) -> None:
        wanted, gatherer = wanted_champion(rollout), self._gatherer
        version, until = self._alias_seen.get(rollout.model, ("", 0.0))
        if version == wanted and gatherer.monotonic() < until:
            return
        found = self._registry.by_alias(rollout.model, ALIAS_CHAMPION)
        if found is None or found.version != wanted:
            self._registry.set_alias(rollout.model, ALIAS_CHAMPION, wanted)
        again = gatherer.monotonic() + gatherer.registry_seconds
        self._alias_seen[rollout.model] = (wanted, again)

    def _conclude(self, kept: KeptRollout, now: datetime) -> Ticked:
        """Carry out an end until it is seen in force; from then on it is history."""
        self.enforce(kept.rollout)
        seen = self._serving.observe(kept.rollout.model)
        if seen is None or not seen.settled:
            return Ticked(kept.rollout)
        done = kept.rollout.model_copy(update={"concluded": True, "seen_at": now})
        return Ticked(self.book.write(kept, done, now).rollout)

    def _idle(self, spec: ModelSpec, last: KeptRollout | None, now: datetime) -> Ticked:
        champion = self._registry.by_alias(spec.name, ALIAS_CHAMPION)
        before = last.rollout if last else None
        if champion is None:
            return Ticked(before)
        if last is None and self._serving.plan(spec.name) is None:
            opened = self.open_rollout(spec, champion.version, "the first champion", now)
            return self._opened(opened, before)
        candidate = self._gatherer.newest(spec.name)
        if candidate is not None and is_newer(candidate, champion.version):
            tried = {kept.rollout.candidate for kept in self.book.all(spec.name)}
            if candidate not in tried:
                cause = f"version {candidate} became candidate"
                return self._opened(self.open_rollout(spec, candidate, cause, now), before)
        if self._serving.plan(spec.name) is None:
            self._serving.apply(_only(spec.name, champion.version, now))
        return Ticked(before)

    def _opened(self, rollout: Rollout | None, before: Rollout | None) -> Ticked:
        if rollout is None:
            return Ticked(before)
        self.enforce(rollout)
        return Ticked(rollout)

    def _trained_until(self, found: RegisteredVersion) -> datetime:
        """The end of what a version learnt from: its training and calibration rows."""
        try:
            text = self._registry.read_text(found.run_id, ARTIFACT_TRAINING_FILE)
        except NotFoundError:
            return found.created_at
        record = TrainingRecord.from_json(text)
        ends = [part.event_to for part in (record.train, record.calibration) if part.event_to]
        if ends:
            return max(ends)
        try:
            lineage = self._registry.read_text(found.run_id, ARTIFACT_LINEAGE)
        except NotFoundError:
            return found.created_at
        return Lineage.from_json(lineage).trained_at


def _only(model: str, version: str, now: datetime) -> ServingPlan:
    return ServingPlan(
        model=model,
        revisions=(Revision(version=version, role=Role.CHAMPION),),
        weights={version: 100},
        at=now,
        reason="the champion, and no rollout is under way",
    )
