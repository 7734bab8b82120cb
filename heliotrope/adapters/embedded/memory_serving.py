"""A serving platform in memory whose versions behave as they are told, for simulations and tests.

It carries out plans as the real ones do: versions take time to start, weights come into force when
those that get traffic are ready, and what a version does to its requests is counted and logged.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from heliotrope.adapters.embedded.memory_outcomes import LoggedPrediction, MemoryOutcomes
from heliotrope.domain.serving_plan import ObservedRevision, ObservedServing, ServingPlan
from heliotrope.errors import UnavailableError
from heliotrope.ports.replay import LoggedRequest, Replayed, ReplayOutcome
from heliotrope.ports.serving import Traffic
from heliotrope.service.shadow import sampled
from heliotrope.vocabulary import Role

Row = Mapping[str, Any]
_EDGES = (0.0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


@dataclass
class Behaviour:
    """What a version does."""

    score: Callable[[Row], float]
    """Its model: the positive class's probability."""
    ready_after: int = 1
    """Rounds from its start until it is ready; a negative number never is."""
    crashes_after: int | None = None
    """Requests after which its process dies, over and over."""
    fails: bool = False
    """Answers 500."""
    refuses: bool = False
    """Answers 4xx: it wants other features."""
    seconds: float = 0.01
    """Time an answer takes."""
    hangs: bool = False
    """Never answers."""


@dataclass
class _Running:
    role: Role
    rounds: int = 0
    requests: int = 0
    restarts: int = 0


@dataclass(frozen=True)
class _Answered:
    at: datetime
    version: str
    good: bool
    seconds: float


@dataclass
class MemoryServing:
    """Serving, its gateway and its counters for one model (`Serving`, `TrafficWatch`, `Replayer`).

    Args:
        behaviours: of each version that may be asked for.
        log: where answers are logged.
        now: the clock that logged answers carry.
    """

    behaviours: dict[str, Behaviour]
    log: MemoryOutcomes
    now: Callable[[], datetime]
    away: bool = False
    """Whether the platform does not answer its controller; requests go on."""
    asked_again: int = 0
    """Replayed requests."""
    applied: list[ServingPlan] = field(default_factory=list)
    _plan: ServingPlan | None = None
    _running: dict[str, _Running] = field(default_factory=dict)
    _weights: dict[str, int] = field(default_factory=dict)
    _answered: list[_Answered] = field(default_factory=list)

    def apply(self, plan: ServingPlan) -> None:
        """As the port says."""
        self._require()
        self._plan = plan
        self.applied.append(plan)

    def plan(self, model: str) -> ServingPlan | None:  # noqa: ARG002 - there is one model
        """As the port says."""
        self._require()
        return self._plan

    def observe(self, model: str) -> ObservedServing | None:
        """As the port says."""
        self._require()
        plan = self._plan
        if plan is None:
            return None
        revisions = tuple(
            ObservedRevision(
                version=version,
                role=running.role,
                ready=self._ready(version),
                address=f"memory://{version}",
                restarts=running.restarts,
            )
            for version, running in self._running.items()
        )
        wanted = {revision.version: revision.role for revision in plan.revisions}
        settled = (
            {v: r.role for v, r in self._running.items()} == wanted
            and all(self._ready(version) for version in wanted)
            and self._weights == {v: w for v, w in plan.weights.items() if w}
        )
        return ObservedServing(
            model=model,
            revisions=revisions,
            weights=dict(self._weights),
            settled=settled,
            gateway="memory://gateway",
        )

    def carry_out(self) -> None:
        """One round of the platform."""
        if self._plan is None:
            return
        for revision in self._plan.revisions:
            running = self._running.setdefault(revision.version, _Running(revision.role))
            running.role, running.rounds = revision.role, running.rounds + 1
        weighted = {v: w for v, w in self._plan.weights.items() if w}
        if not self._weights or all(self._ready(version) for version in weighted):
            self._weights = weighted
            named = {revision.version for revision in self._plan.revisions}
            self._running = {v: r for v, r in self._running.items() if v in named}

    def request(self, request_id: str, row: Row) -> str | None:
        """A user's request, through the gateway; answers who took it."""
        edge = 0
        for version, weight in sorted(self._weights.items()):
            edge += weight
            if sampled(f"gateway/{request_id}", edge / 100):
                self._answer(version, request_id, (row,))
                return version
        return None

    def ask(
        self,
        address: str,
        model: str,  # noqa: ARG002 - there is one model
        requests: Sequence[LoggedRequest],
        seconds: float,  # noqa: ARG002 - time does not pass here
    ) -> list[Replayed]:
        """As the port says."""
        version = address.rpartition("/")[2]
        self.asked_again += len(requests)
        return [
            Replayed(one.request_id, self._answer(version, one.request_id, one.rows, again=True))
            for one in requests
        ]

    def traffic(
        self,
        model: str,  # noqa: ARG002 - there is one model
        since: datetime,
        until: datetime,
    ) -> list[Traffic]:
        """As the port says."""
        self._require()
        found = []
        for version in self._running:
            mine = [a for a in self._answered if a.version == version and since < a.at <= until]
            times = sorted(a.seconds for a in mine if a.good) or [math.nan]
            found.append(
                Traffic(
                    version=version,
                    requests=len(mine),
                    errors=sum(not a.good for a in mine),
                    p50_seconds=times[len(times) // 2],
                    p99_seconds=times[math.ceil(len(times) * 0.99) - 1],
                    latency=tuple(
                        (low, sum(low < a.seconds <= high for a in mine if a.good))
                        for low, high in pairwise((*_EDGES, math.inf))
                    ),
                )
            )
        return found

    def _answer(
        self, version: str, request_id: str, rows: Sequence[Row], *, again: bool = False
    ) -> ReplayOutcome:
        running, does = self._running.get(version), self.behaviours[version]
        if running is None or not self._ready(version) or does.hangs or does.fails:
            return self._count(version, ReplayOutcome.FAILED, 5.0 if does.hangs else does.seconds)
        running.requests += 1
        if does.crashes_after is not None and running.requests > does.crashes_after:
            self._running[version] = replace(
                running, rounds=0, requests=0, restarts=running.restarts + 1
            )
            return self._count(version, ReplayOutcome.FAILED, does.seconds)
        if does.refuses:
            return ReplayOutcome.REFUSED
        scores = [does.score(row) for row in rows]
        if not all(math.isfinite(score) for score in scores):
            return self._count(version, ReplayOutcome.UNUSABLE, does.seconds)
        for place, (row, score) in enumerate(zip(rows, scores, strict=True)):
            self.log.add(
                LoggedPrediction(
                    prediction_id=f"{request_id}/{place}",
                    version=version,
                    role=Role.SHADOW if again else running.role,
                    predicted_at=self.now(),
                    prediction=int(score >= 0.5),
                    score=score,
                    features=row,
                )
            )
        return self._count(version, ReplayOutcome.ANSWERED, does.seconds)

    def _count(self, version: str, outcome: ReplayOutcome, seconds: float) -> ReplayOutcome:
        good = outcome is ReplayOutcome.ANSWERED
        self._answered.append(_Answered(self.now(), version, good, seconds))
        return outcome

    def _ready(self, version: str) -> bool:
        running, does = self._running.get(version), self.behaviours[version]
        return running is not None and 0 <= does.ready_after <= running.rounds

    def _require(self) -> None:
        if self.away:
            raise UnavailableError("the serving platform must answer. It is away.")
