"""Copies of one kind's objects: listed once, then kept up to date by what the API server tells.

As Kubernetes' own controllers do it. A watch is ended by the server every half minute and goes on
from the version that was told last; bookmarks move that version on where nothing happens. Whatever
else ends it (the server, the network, a version that is too old for the server to remember) begins
with a new list, which is of the moment at which it is asked for. Nothing is read from copies from
the moment at which the watch broke until one goes on from that list.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

from heliotrope.adapters.cluster.access import Kind
from heliotrope.adapters.cluster.kube import KubeClient
from heliotrope.adapters.cluster.kube_answers import Again, Expired, Object
from heliotrope.adapters.cluster.kube_link import Stream
from heliotrope.errors import HeliotropeError, UnavailableError
from heliotrope.vocabulary import LABEL_MODEL

logger = logging.getLogger("heliotrope.kube")

WATCH_SECONDS = 30
"""After which the server ends a watch: a sign of life, also where nothing happens."""
SILENT_SECONDS = 45.0
"""Without a sign of life, after which copies are not read: a connection may die without a word."""
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0
"""Before a watch that broke is begun again."""
QUICK_SECONDS = 1.0
"""After a watch that lasted less, pauses grow, even where the server ended it."""


class WatchedKind:
    """The objects of one kind that carry a model's label, kept by a thread of its own.

    Args:
        kube: whose namespace it is.
        kind: the kind.
        monotonic: a clock.
    """

    def __init__(
        self, kube: KubeClient, kind: Kind, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube, self._kind, self._monotonic = kube, kind, monotonic
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self._names: dict[str, set[str]] = {}
        """By model."""
        self._noted: dict[str, Object] = {}
        """What came while a list was under way, which may be of a moment before."""
        self._version = ""
        """Up to which all is known; empty before there is a list."""
        self._heard: float | None = None
        """The last sign of life; None while nothing may be read."""
        self._stream: Stream | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble = ""

    def start(self) -> None:
        """Begin to keep them; nothing happens the second time."""
        with self._lock:
            if self._thread is None:
                name = f"watch {self._kind.plural}"
                self._thread = threading.Thread(target=self._keep, name=name, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Stop keeping them, for good; nothing may be read afterwards."""
        self._ended.set()
        with self._lock:
            self._heard = None
            stream, thread = self._stream, self._thread
        if stream is not None:
            stream.stop()
        if thread is not None:
            thread.join()

    @property
    def current(self) -> bool:
        """Whether copies are what the API server told, up to the time that telling takes."""
        heard = self._heard
        return heard is not None and self._monotonic() - heard <= SILENT_SECONDS

    def get(self, name: str) -> Object | None:
        """A copy; None where there is none, which may be the object's label's fault."""
        with self._lock:
            return self._objects.get(name)

    def of_model(self, model: str) -> list[Object]:
        """All copies that carry a model's label, by name."""
        with self._lock:
            return [self._objects[name] for name in sorted(self._names.get(model, ()))]

    def every(self) -> list[Object]:
        """All copies, by name."""
        with self._lock:
            return [self._objects[name] for name in sorted(self._objects)]

    def note(self, made: Object) -> None:
        """Take what the server answered to a write, so that it is read before it is told of."""
        with self._lock:
            if _model(made) is None or _number(made) <= int(self._version or 0):
                return  # it was told already, and perhaps what came after it
            if not self._version:
                self._noted[str(made["metadata"]["name"])] = made
            self._put(made)

    def _keep(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._ended.is_set():
            began, ended_well = self._monotonic(), False
            try:
                if not self._version:
                    self._list()
                self._follow()
                self._told_well()
                ended_well = True
            except Expired as error:
                logger.debug("%s: listed again: %s", self._kind.resource, error)
                self._forget()
            except Exception as error:  # noqa: BLE001 - whatever it is, the server is asked instead
                self._forget()
                self._tell(error)
            quick = self._monotonic() - began < QUICK_SECONDS
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS) if quick else FIRST_PAUSE_SECONDS
            if quick or not ended_well:
                # Spread, since all kinds break off at once when the server does.
                self._ended.wait(pause * random.uniform(0.5, 1.0))

    def _list(self) -> None:
        with self._lock:
            self._noted = {}
        listed = self._kube.listed(self._kind, {LABEL_MODEL: None})
        if not listed.version.isdigit():
            raise UnavailableError(
                f"The version of a list of {self._kind.resource} must be a number, as Kubernetes "
                f"has it. Got {listed.version!r}."
            )
        with self._lock:
            newer = [one for one in self._noted.values() if _number(one) > int(listed.version)]
            self._objects, self._names = {}, {}
            for one in (*listed.items, *newer):
                self._put(one)
            self._noted, self._version = {}, listed.version

    def _follow(self) -> None:
        stream = self._kube.watch(self._kind, {LABEL_MODEL: None}, self._version, WATCH_SECONDS)
        with self._lock:
            self._stream = stream
        if self._ended.is_set():
            stream.stop()
        try:
            self._heard_now()
            for event in stream:
                self._take(str(event.get("type")), event.get("object") or {})
                self._heard_now()
        finally:
            with self._lock:
                self._stream = None

    def _take(self, happened: str, found: Object) -> None:
        if happened == "ERROR":
            said = f"Got {found.get('code')}: {found.get('message')}"
            if found.get("code") == 410:
                raise Expired(said)
            raise UnavailableError(
                f"Kubernetes' API must tell what becomes of {self._kind.resource}. {said}."
            )
        with self._lock:
            self._version = str(found["metadata"]["resourceVersion"])
            if happened == "BOOKMARK":
                return
            held = self._objects.get(str(found["metadata"]["name"]))
            if held is not None and _number(held) > _number(found):
                return  # a write of ours, which is told of next
            if happened == "DELETED":
                self._drop(str(found["metadata"]["name"]))
            else:
                self._put(found)

    def _put(self, found: Object) -> None:
        name, model = str(found["metadata"]["name"]), _model(found)
        # Who owns which field is half of an object, and nobody here asks.
        found["metadata"].pop("managedFields", None)
        self._drop(name)
        self._objects[name] = found
        self._names.setdefault(model or "", set()).add(name)

    def _drop(self, name: str) -> None:
        before = self._objects.pop(name, None)
        if before is not None:
            model = _model(before) or ""
            self._names[model].discard(name)
            if not self._names[model]:
                del self._names[model]

    def _heard_now(self) -> None:
        with self._lock:
            if not self._ended.is_set():
                self._heard = self._monotonic()

    def _forget(self) -> None:
        with self._lock:
            self._heard, self._version = None, ""

    def _tell(self, error: Exception) -> None:
        text = str(error)
        if self._ended.is_set() or text == self._trouble:
            return
        self._trouble = text
        known = isinstance(error, HeliotropeError | Again)
        logger.warning(
            "%s must be watched; each is asked for by itself meanwhile. %s", self._kind.resource,
            text, exc_info=None if known else error,
        )  # fmt: skip

    def _told_well(self) -> None:
        if self._trouble:
            logger.warning("%s are watched again.", self._kind.resource)
            self._trouble = ""


def _model(found: Object) -> str | None:
    model = (found["metadata"].get("labels") or {}).get(LABEL_MODEL)
    return None if model is None else str(model)


def _number(found: Object) -> int:
    """Versions rise: a larger one is of a later moment (Kubernetes' API concepts)."""
    return int(found["metadata"]["resourceVersion"])
