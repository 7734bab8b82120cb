"""Where versions run and traffic is split."""

from datetime import datetime
from typing import Protocol

from heliotrope.domain.document import Document
from heliotrope.domain.serving_plan import ObservedServing, ServingPlan


class Serving(Protocol):
    """The embedded supervisor with Envoy, or KServe. Declarative: a plan may be given again.

    Every method may raise UnavailableError: the platform does not answer.
    """

    def apply(self, plan: ServingPlan) -> None:
        """Ask for a plan; answers before it is carried out."""
        ...

    def plan(self, model: str) -> ServingPlan | None:
        """What was last asked for."""
        ...

    def observe(self, model: str) -> ObservedServing | None:
        """What is there; None where the model was never served."""
        ...


class Traffic(Document):
    """What a version's requests were like over a time."""

    version: str
    requests: int
    errors: int
    """Answered 5xx, without a finite score (422), or not at all."""
    p50_seconds: float
    """NaN without requests."""
    p99_seconds: float
    latency: tuple[tuple[float, int], ...] = ()
    """Requests that took longer than so many seconds, and no longer than the next entry's, rising
    from 0; empty where only the quantiles are known."""


class TrafficWatch(Protocol):
    """Counts of requests by version."""

    def traffic(self, model: str, since: datetime, until: datetime) -> list[Traffic]:
        """Each running version's own, between two times as near as samples go; UTC."""
        ...
