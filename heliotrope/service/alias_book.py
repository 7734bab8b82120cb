"""What the registry knows of a model's versions, asked in the background: a page must not wait for
a registry that is slow or away.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread

from heliotrope.errors import HeliotropeError
from heliotrope.ports import RegisteredVersion, Registry

FRESH_SECONDS = 10.0


@dataclass(frozen=True)
class KnownVersions:
    """As last heard."""

    versions: tuple[RegisteredVersion, ...] = ()
    """Newest first."""
    trouble: str = ""
    """Why it may be old."""


class AliasBook:
    """Versions and aliases as last known. Any thread may ask; nobody waits.

    Args:
        registry: answers the registry; called on a thread of its own, where it may be made.
        monotonic: seconds.
    """

    def __init__(
        self, registry: Callable[[], Registry], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry, self._monotonic = registry, monotonic
        self._lock = Lock()
        self._known: dict[str, KnownVersions] = {}
        self._asked: dict[str, float] = {}
        self._asking: set[str] = set()

    def known(self, model: str) -> KnownVersions:
        """What is known now; asks anew, for the next time, what is not fresh."""
        with self._lock:
            now = self._monotonic()
            due = model not in self._asked or now - self._asked[model] > FRESH_SECONDS
            if due and model not in self._asking:
                self._asking.add(model)
                Thread(target=self._ask, args=(model,), name="registry", daemon=True).start()
            return self._known.get(model, KnownVersions())

    def _ask(self, model: str) -> None:
        before = self._known.get(model, KnownVersions())
        try:
            found = KnownVersions(tuple(self._registry().versions(model)))
        except HeliotropeError as error:
            found = KnownVersions(before.versions, f"The registry must answer. {error}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the page shows the rest
            kind = type(error).__name__
            found = KnownVersions(before.versions, f"The registry must answer. Got {kind}.")
        finally:
            with self._lock:
                self._asking.discard(model)
                self._asked[model] = self._monotonic()
        with self._lock:
            self._known[model] = found
