"""Reads of a namespace that cost no request each: answered from copies that a watch keeps.

For whoever looks at many models again and again: what the API server is asked then grows with what
happens and with kinds, not with models. A copy may be older than the object by the time that
telling takes. Who must know, above all before a write, asks `KubeClient`.
"""

import time
from collections.abc import Callable, Mapping, Sequence

from heliotrope.adapters.cluster.access import Kind
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_answers import Object
from heliotrope.adapters.cluster.watched_kind import WatchedKind
from heliotrope.vocabulary import LABEL_MODEL


class WatchedObjects:
    """Answers `get` and `list` as `KubeClient` does, which answers where copies cannot.

    Args:
        kube: Kubernetes' API, as an account that may list and watch the kinds.
        kinds: those of which copies are kept, of objects that carry a model's label.
        monotonic: a clock.
    """

    def __init__(
        self,
        kube: KubeClient,
        kinds: Sequence[Kind],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._kinds = {kind: WatchedKind(kube, kind, monotonic) for kind in kinds}

    @property
    def current(self) -> bool:
        """Whether copies of all kinds are there and up to date."""
        return all(watched.current for watched in self._kinds.values())

    def get(self, kind: Kind, name: str) -> Object | None:
        """An object, or None where the API server itself says that there is none.

        Raises:
            UnavailableError: copies cannot tell, and the API server does not answer.
        """
        watched = self._current(kind)
        found = watched.get(name) if watched else None
        # What is not told of yet, or lost its label, must not be taken for what was never there.
        return found if found is not None else self._kube.get(kind, name)

    def list(self, kind: Kind, labels: Mapping[str, str]) -> "list[Object]":
        """All objects with these labels, a model's among them or all of a part.

        Raises:
            UnavailableError: copies cannot tell, and the API server does not answer.
        """
        watched = self._current(kind)
        if watched is None:
            return self._kube.list(kind, labels)
        model = labels.get(LABEL_MODEL)
        found = watched.every() if model is None else watched.of_model(model)
        return [one for one in found if labels.items() <= one["metadata"]["labels"].items()]

    def note(self, kind: Kind, made: Object) -> None:
        """Take what the API server answered to a write: it is read from now on."""
        if kind in self._kinds:
            self._kinds[kind].note(made)

    def close(self) -> None:
        """Stop watching, for good."""
        for watched in self._kinds.values():
            watched.stop()

    def _current(self, kind: Kind) -> WatchedKind | None:
        watched = self._kinds.get(kind)
        if watched is None:
            return None
        # Not before the first read: who never looks needs no copies.
        watched.start()
        return watched if watched.current else None
