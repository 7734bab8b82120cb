"""Asking a version again what another was asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


@dataclass(frozen=True)
class LoggedRequest:
    """A request as it was logged."""

    request_id: str
    rows: tuple[Mapping[str, Any], ...]
    """Features by name, None where missing; in the request's own order, since a row's prediction
    id is `<request_id>/<place>`."""


class ReplayOutcome(StrEnum):
    """What became of it."""

    ANSWERED = "answered"
    """With a finite score a row."""
    FAILED = "failed"
    """5xx, not in time, or no connection."""
    REFUSED = "refused"
    """4xx: the version does not take what the other took."""
    UNUSABLE = "unusable"
    """It has no finite score."""


@dataclass(frozen=True)
class Replayed:
    """One request that was asked."""

    request_id: str
    outcome: ReplayOutcome
    note: str = ""
    """What the version said, where it did not answer."""


class Replayer(Protocol):
    """Sends logged requests, at a bounded rate and for a bounded time."""

    def ask(
        self, address: str, model: str, requests: Sequence[LoggedRequest], seconds: float
    ) -> list[Replayed]:
        """Ask in order until all are asked or the time is over; those not asked are left out.

        What is answered is logged as a shadow's, whatever the version is to users: they had their
        answer.

        Never raises for what the version does: that is what is looked for.

        Args:
            address: base URL of the version's own endpoint.
            model: name in the path.
            requests: what to ask; the request id goes along, so that both records share it.
            seconds: of real time; what was begun by then is waited for, for at most a time-out.
        """
        ...
