"""The role that pods say they answer in, asked of each, and not again while it is as wanted."""

import http.client
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from heliotrope.adapters.inference_pods import PodFacts
from heliotrope.telemetry.predictor_metrics import PREDICTOR_INFO
from heliotrope.vocabulary import Role

ASK_SECONDS = 2.0
ASK_AGAIN_SECONDS = 10.0
"""Before a pod that did not answer is asked again: a tick must not wait for it each time."""
MOST_PODS = 10_000
_ROLE = re.compile(rf'^{PREDICTOR_INFO.name}\{{.*\brole="(\w+)"'.encode(), re.MULTILINE)


def ask_role(url: str) -> Role | None:
    """The role that a predictor says it answers in; None where it does not say."""
    parts = urlsplit(url)
    try:
        link = http.client.HTTPConnection(parts.netloc, timeout=ASK_SECONDS)
        try:
            link.request("GET", "/metrics")
            found = _ROLE.search(link.getresponse().read())
        finally:
            link.close()
        return Role(found[1].decode()) if found else None
    except (OSError, ValueError, http.client.HTTPException):
        return None


@dataclass(frozen=True)
class _Said:
    """What a pod said its role is, and when; None where it said nothing."""

    role: Role | None
    at: float


class PodRoles:
    """Remembers what each pod said.

    Args:
        ask: what a pod at a base URL says its role is.
        monotonic: a clock.
    """

    def __init__(
        self,
        ask: Callable[[str], Role | None] = ask_role,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._monotonic = ask, monotonic
        self._said: dict[str, _Said] = {}
        """By pod."""

    def of(self, facts: PodFacts, wanted: Role | None) -> Role | None:
        """Of all pods, as they said it last; one that differs from what is wanted comes first."""
        if not facts.ready:
            return wanted
        found = [self._asked(name, url, wanted) for name, url in facts.ready]
        return next((role for role in found if role != wanted), wanted)

    def _asked(self, name: str, url: str, wanted: Role | None) -> Role | None:
        now, said = self._monotonic(), self._said.get(name)
        if said is not None and (
            said.role == wanted or (said.role is None and now - said.at < ASK_AGAIN_SECONDS)
        ):
            return said.role
        role = self._ask(url)
        if len(self._said) > MOST_PODS:
            # Of pods that are long gone, mostly.
            self._said.clear()
        self._said[name] = _Said(role, now)
        return role
