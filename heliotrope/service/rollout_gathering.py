"""Gathering the evidence of a rollout. What cannot be read is named in it and judged as ERROR."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import numpy as np

from heliotrope.domain.outcomes import PairedOutcomes
from heliotrope.domain.rollout.comparison import compare_apart, compare_pairs
from heliotrope.domain.rollout.documents import Rollout
from heliotrope.domain.rollout.evidence import Comparison, Evidence, Health, Replay
from heliotrope.domain.rollout.loss import Loss, loss_for
from heliotrope.domain.rollout.policy import RolloutPolicy
from heliotrope.domain.rollout.states import RolloutState
from heliotrope.domain.serving_plan import ObservedServing
from heliotrope.errors import HeliotropeError
from heliotrope.ports.outcomes import OutcomeReader
from heliotrope.ports.registry import Registry
from heliotrope.ports.serving import Serving, Traffic, TrafficWatch
from heliotrope.service.shadow import Shadow, judged_since
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import ALIAS_CANDIDATE

Value = TypeVar("Value")
logger = logging.getLogger("heliotrope.rollout")
REST = 4.0
"""A reading that took long is not repeated before so many times its own duration."""


@dataclass(frozen=True)
class Sources:
    """Where evidence comes from."""

    serving: Serving
    registry: Registry
    outcomes: OutcomeReader
    watch: TrafficWatch | None = None
    """None where nobody counts requests: then no canary passes."""
    shadow: Shadow | None = None
    """None where nothing is replayed."""


@dataclass
class _Paced(Generic[Value]):
    """A costly reading, kept for a while."""

    value: Value
    key: tuple[object, ...]
    until: float


@dataclass
class Gatherer:
    """Gathers evidence, remembering what is costly to read for a moment of real time."""

    sources: Sources
    monotonic: Callable[[], float] = time.monotonic
    registry_seconds: float = 1.0
    """The registry is asked for a new candidate no more often."""
    _comparisons: dict[str, _Paced[Comparison | None]] = field(default_factory=dict)
    _newest: dict[str, _Paced[str | None]] = field(default_factory=dict)
    _broke: dict[str, str] = field(default_factory=dict)

    def gather(self, spec: ModelSpec, rollout: Rollout, now: datetime) -> Evidence:
        """All there is to know of this turn; never raises for a source that does not answer."""
        broken: dict[str, str] = {}

        def tried(name: str, read: Callable[[], Value]) -> Value | None:
            try:
                return read()
            except HeliotropeError as error:
                broken[name] = str(error)
            except Exception as error:  # a query that breaks is an ERROR
                broken[name] = f"{type(error).__name__}: {error}"
                if self._broke.get(name) != broken[name]:
                    logger.warning(
                        "The %s of %s must be readable.", name, spec.name, exc_info=error
                    )
                    self._broke[name] = broken[name]
            return None

        serving = tried("serving", lambda: self.sources.serving.observe(spec.name))
        health = tried("traffic", lambda: self._traffic(rollout, now))
        replay: Replay | None = None
        comparison: Comparison | None = None
        if rollout.champion is not None and rollout.effective is not RolloutState.PENDING:
            if serving is not None:
                there = serving
                replay = tried("replay", lambda: self._replay(spec, rollout, there, now))
            comparison = tried("outcomes", lambda: self._compared(spec, rollout, now))
        newest = tried("registry", lambda: self.newest(spec.name))
        mine, other = health or (None, None)
        return Evidence(
            turn=rollout.turn,
            serving=serving,
            candidate=mine,
            champion=other,
            replay=replay,
            comparison=comparison,
            newest=newest,
            broken=broken,
            gathered_at=now,
        )

    def newest(self, model: str) -> str | None:
        """The version that the candidate alias names.

        Raises:
            UnavailableError: the registry does not answer.
        """
        known = self._newest.get(model)
        if known is None or self.monotonic() >= known.until:
            found = self.sources.registry.by_alias(model, ALIAS_CANDIDATE)
            value = found.version if found else None
            known = _Paced(value, (), self.monotonic() + self.registry_seconds)
            self._newest[model] = known
        return known.value

    def _traffic(self, rollout: Rollout, now: datetime) -> tuple[Health | None, Health | None]:
        watch = self.sources.watch
        if watch is None:
            return None, None
        turn = watch.traffic(rollout.model, rollout.entered_at, now)
        # The champion is known from before, too; on the last step it has no users to be known by.
        longer = watch.traffic(rollout.model, rollout.opened_at - timedelta(hours=1), now)
        other, kept = _health(longer, rollout.champion), rollout.champion_seen
        if kept is not None and (other is None or other.requests < kept.requests):
            other = kept
        return _health(turn, rollout.candidate), other

    def _replay(
        self, spec: ModelSpec, rollout: Rollout, serving: ObservedServing, now: datetime
    ) -> Replay | None:
        shadow = self.sources.shadow
        return None if shadow is None else shadow.work(spec, rollout, serving, now)

    def _compared(self, spec: ModelSpec, rollout: Rollout, now: datetime) -> Comparison | None:
        key: tuple[object, ...] = (rollout.number, rollout.turn)
        known = self._comparisons.get(spec.name)
        if known is not None and known.key == key and self.monotonic() < known.until:
            return known.value
        began = self.monotonic()
        loss = loss_for(spec, rollout.error_scale)
        if spec.rollout.shadow.enabled:
            value = self._paired(spec, rollout, loss, now)
        else:
            value = self._apart(spec, rollout, loss, now)
        ended = self.monotonic()
        self._comparisons[spec.name] = _Paced(value, key, ended + REST * (ended - began))
        return value

    def _paired(
        self, spec: ModelSpec, rollout: Rollout, loss: Loss, now: datetime
    ) -> Comparison | None:
        if rollout.champion is None:
            return None
        pairs = self.sources.outcomes.pairs(
            spec,
            rollout.champion,
            rollout.candidate,
            judged_since(spec, rollout),
            now + timedelta(microseconds=1),
            labelled=False,
        )
        alpha = RolloutPolicy.of(spec).alpha
        return compare_pairs(loss, _mature(spec, pairs, now), alpha, now)

    def _apart(
        self, spec: ModelSpec, rollout: Rollout, loss: Loss, now: datetime
    ) -> Comparison | None:
        canaries = [step for step in spec.rollout.steps if step < 100]
        if rollout.champion is None or not canaries:
            return None
        since = max(rollout.opened_at, rollout.trained_until or rollout.opened_at)
        champion, candidate = (
            self.sources.outcomes.outcomes(spec, since, now, version=version)
            for version in (rollout.champion, rollout.candidate)
        )
        if len(candidate) and len(champion):
            # Only while both answered: the world may have been another before and after.
            first, last = candidate.predicted_at.min(), champion.predicted_at.max()
            champion = champion.where(np.asarray(champion.predicted_at >= first))
            candidate = candidate.where(np.asarray(candidate.predicted_at <= last))
        alpha = RolloutPolicy.of(spec).alpha
        return compare_apart(loss, champion, candidate, canaries[-1], alpha, now)


def _health(traffic: list[Traffic], version: str | None) -> Health | None:
    found = next((one for one in traffic if one.version == version), None)
    return None if found is None else Health.model_validate(found.model_dump())


def _mature(spec: ModelSpec, pairs: PairedOutcomes, now: datetime) -> PairedOutcomes:
    """The pairs without labels that came early while most of their time's have not.

    A loan's default is known before its being repaid, so the first labels of a day are not like
    the rest of them; a day counts once its delay has passed or nearly all of its labels are there.
    """
    if not spec.label.delay or len(pairs) == 0:
        return pairs
    ripe = np.datetime64((now - spec.label.delay).replace(tzinfo=None), "us")
    young = np.asarray(pairs.predicted_at > ripe)
    if not young.any() or pairs.labelled[young].mean() >= spec.monitoring.mature_coverage:
        return pairs
    return replace(pairs, label=np.where(young, np.nan, pairs.label))
