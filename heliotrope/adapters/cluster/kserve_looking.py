"""What there is of a model on KServe, read as one: its InferenceService, pods and revisions."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from heliotrope.adapters.cluster import access
from heliotrope.adapters.cluster.kube_answers import Object
from heliotrope.adapters.inference_knative import revisions_of, view_knative
from heliotrope.adapters.inference_pods import facts_by_version
from heliotrope.adapters.inference_service import (
    RevisionFacts,
    Seen,
    ServedAs,
    ServingMode,
    View,
    version_of,
)
from heliotrope.adapters.inference_standard import view_standard
from heliotrope.vocabulary import LABEL_MODEL


class Reader(Protocol):
    """What may be read from: Kubernetes' API itself, or copies of what it holds."""

    def get(self, kind: access.Kind, name: str) -> Object | None:
        """An object that must not be changed, or None where there is none."""
        ...

    def list(self, kind: access.Kind, labels: Mapping[str, str]) -> "list[Object]":
        """All objects with these labels; none may be changed."""
        ...


def served_kinds(mode: ServingMode) -> tuple[access.Kind, ...]:
    """The kinds that are read to know what is served, plans and roles among them.

    >>> [kind.plural for kind in served_kinds(ServingMode.STANDARD)]
    ['configmaps', 'inferenceservices', 'pods']
    """
    found = (access.CONFIG_MAP, access.INFERENCE_SERVICE, access.POD)
    return (*found, access.KNATIVE_REVISION) if mode is ServingMode.KNATIVE else found


class Looking:
    """Reads, and remembers how long each version has been without traffic.

    Args:
        values: what all versions of this installation have in common.
        service_url: where a Service answers whoever asks from here.
        linger: seconds without traffic, after which a version is idle.
        monotonic: a clock.
    """

    def __init__(
        self,
        values: ServedAs,
        service_url: Callable[[str, str], str],
        linger: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._values, self._service_url = values, service_url
        self._linger, self._monotonic = linger, monotonic
        self._zero: dict[tuple[str, str], float] = {}

    def seen(self, model: str, reader: Reader) -> Seen:
        """All that the cluster says of a model.

        Raises:
            UnavailableError: the cluster does not answer.
        """
        isvc = reader.get(access.INFERENCE_SERVICE, model)
        if isvc is None:
            return Seen(None)
        pods = facts_by_version(reader.list(access.POD, {LABEL_MODEL: model}))
        revisions: Mapping[str, RevisionFacts] = {}
        if self._values.mode is ServingMode.KNATIVE:
            revisions = {name: _revision(name, reader) for name in revisions_of(isvc)}
        seen = Seen(isvc, pods, revisions)
        return Seen(isvc, pods, revisions, self._idle(model, self.view(seen)))

    def view(self, seen: Seen) -> View:
        """What the mode makes of it."""
        if self._values.mode is ServingMode.KNATIVE:
            return view_knative(seen)
        return view_standard(seen, self._values.namespace, self._service_url)

    def _idle(self, model: str, view: View) -> frozenset[str]:
        now, found = self._monotonic(), set()
        for version in view.versions:
            if view.weights.get(version) or not view.fresh:
                self._zero.pop((model, version), None)
            elif now - self._zero.setdefault((model, version), now) >= self._linger:
                found.add(version)
        return frozenset(found)


def _revision(name: str, reader: Reader) -> RevisionFacts:
    found = reader.get(access.KNATIVE_REVISION, name)
    if found is None:
        return RevisionFacts(None, ready=False)
    conditions = (found.get("status") or {}).get("conditions") or []
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
    return RevisionFacts(version_of(found["metadata"]), ready)
