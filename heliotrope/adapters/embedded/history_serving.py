"""Serving, its gateway and its counters for a backtest: versions answer rows of a history.

Plans are in force at the next round. Every version is healthy and equally quick: history does not
hold how a version that never ran would have failed.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from heliotrope.adapters.embedded.history_log import HistoryLog
from heliotrope.domain.backtest.history import stamp
from heliotrope.domain.serving_plan import ObservedRevision, ObservedServing, ServingPlan
from heliotrope.ports.replay import LoggedRequest, Replayed, ReplayOutcome
from heliotrope.ports.serving import Traffic
from heliotrope.vocabulary import Role

SECONDS = 0.005
"""What an answer takes."""


class HistoryServing:
    """One model's (`Serving`, `TrafficWatch`, `Replayer`)."""

    def __init__(self, log: HistoryLog) -> None:
        self._log = log
        self._wanted: ServingPlan | None = None
        self._running: ServingPlan | None = None
        # The same dice for every policy: which user a canary meets is not a policy's merit.
        self._dice = np.array([_dice(str(name)) for name in log.ids])

    def apply(self, plan: ServingPlan) -> None:
        """As the port says."""
        self._wanted = plan

    def plan(self, model: str) -> ServingPlan | None:  # noqa: ARG002 - there is one model
        """As the port says."""
        return self._wanted

    def observe(self, model: str) -> ObservedServing | None:
        """As the port says."""
        running = self._running
        if self._wanted is None or running is None:
            return None
        revisions = tuple(
            ObservedRevision(
                version=one.version, role=one.role, ready=True, address=f"memory://{one.version}"
            )
            for one in running.revisions
        )
        return ObservedServing(
            model=model,
            revisions=revisions,
            weights=_positive(running),
            settled=running == self._wanted,
            gateway="memory://gateway",
        )

    def carry_out(self) -> None:
        """Put the plan in force."""
        self._running = self._wanted

    def play(self, since: datetime, until: datetime) -> int:
        """Answer the rows of a time, (since, until]; answers how many there were."""
        running, at = self._running, self._log.history.at
        first, stop = np.searchsorted(at, [stamp(since), stamp(until)], "right")
        rows = np.arange(first, stop)
        if running is None or not len(rows):
            return 0
        roles = {one.version: one.role for one in running.revisions}
        edge = 0
        for version, weight in sorted(_positive(running).items()):
            dealt = (self._dice[rows] >= edge) & (self._dice[rows] < edge + weight)
            self._log.add(rows[dealt], version, roles[version])
            edge += weight
        return len(rows)

    def ask(
        self,
        address: str,
        model: str,  # noqa: ARG002 - there is one model
        requests: Sequence[LoggedRequest],
        seconds: float,  # noqa: ARG002 - no time passes here
    ) -> list[Replayed]:
        """As the port says; a request's id is its row's."""
        version = address.rpartition("/")[2]
        running = self._running.revisions if self._running else ()
        if not any(one.version == version for one in running):
            return [Replayed(one.request_id, ReplayOutcome.FAILED, "not there") for one in requests]
        rows = np.array([int(one.request_id) for one in requests], np.int64)
        self._log.add(rows, version, Role.SHADOW, np.full(len(rows), stamp(self._log.now())))
        return [Replayed(one.request_id, ReplayOutcome.ANSWERED) for one in requests]

    def traffic(
        self,
        model: str,  # noqa: ARG002 - there is one model
        since: datetime,
        until: datetime,
    ) -> list[Traffic]:
        """As the port says."""
        if self._running is None:
            return []
        tick = timedelta(microseconds=1)
        return [
            Traffic(
                version=one.version,
                requests=len(self._log.between(since + tick, until + tick, one.version)),
                errors=0,
                p50_seconds=SECONDS,
                p99_seconds=SECONDS,
            )
            for one in self._running.revisions
        ]


def _positive(plan: ServingPlan) -> dict[str, int]:
    return {version: weight for version, weight in plan.weights.items() if weight}


def _dice(name: str) -> float:
    """Per cent, from 0 to 100, the same whenever it is asked."""
    digest = hashlib.blake2b(f"gateway/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 * 100
