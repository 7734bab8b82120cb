"""A watch of an emulated API server: which changes one is told of, and as what."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.emulated.object_store import Change, Key, Object, ObjectStore


@dataclass(frozen=True)
class Selector:
    """Of labels; a value of None is any."""

    wanted: Mapping[str, str | None]

    @staticmethod
    def parse(text: str) -> "Selector":
        """As the query has it: `a=b,c`."""
        found: dict[str, str | None] = {}
        for part in filter(None, text.split(",")):
            name, sign, value = part.partition("=")
            found[name] = value if sign else None
        return Selector(found)

    def takes(self, value: Object | None) -> bool:
        """Whether an object is one of those."""
        labels = ((value or {}).get("metadata") or {}).get("labels") or {}
        return value is not None and all(
            name in labels and wanted in (None, labels[name])
            for name, wanted in self.wanted.items()
        )


@dataclass
class Watch:
    """One that is open.

    Args:
        store: what is watched.
        key: group, plural and namespace; its name is not looked at.
        selector: of labels.
        version: after which it begins.
        seconds: after which it ends.
        bookmarks: whether it says how far it is before it ends.
    """

    store: ObjectStore
    key: Key
    selector: Selector
    version: int
    seconds: float
    bookmarks: bool
    cut: bool = False
    """It breaks off as it is."""
    mute: bool = False
    """Nothing comes any more, not even its end."""
    upto: int | None = None
    """It is so slow that later changes do not come."""

    def events(self) -> Iterator[Object]:
        """Until its time is over; each as a line has it."""
        end = time.monotonic() + self.seconds
        while (changes := self._next(end)) is not None:
            for change in changes:
                self.version = change.version
                told = self._told(change)
                if told is not None:
                    yield told
        if self.cut:
            return
        if self.version < self.store.forgotten:
            yield error(410, "Expired", f"too old resource version: {self.version}")
        elif self.bookmarks:
            metadata = {"resourceVersion": str(self.version)}
            yield {"type": "BOOKMARK", "object": {"metadata": metadata}}

    def _next(self, end: float) -> list[Change] | None:
        """What happened since it was last asked; None at its end."""
        with self.store.lock:
            while not self.cut:
                if self.mute:
                    self.store.changed.wait()
                    continue
                if self.version < self.store.forgotten:
                    return None
                changes = self.store.since(self.version)
                if self.upto is not None:
                    changes = [one for one in changes if one.version <= self.upto]
                left = end - time.monotonic()
                if changes or left <= 0:
                    return changes or None
                self.store.changed.wait(left)
        return None

    def _told(self, change: Change) -> Object | None:
        if change.key[:3] != self.key[:3]:
            return None
        was, there = self.selector.takes(change.before), self.selector.takes(change.after)
        if there:
            return {"type": "MODIFIED" if was else "ADDED", "object": change.after}
        if not was:
            return None
        # One that lost its label is gone for whoever selects by it.
        gone = change.before or {}
        metadata = {**gone["metadata"], "resourceVersion": str(change.version)}
        return {"type": "DELETED", "object": {**gone, "metadata": metadata}}


def error(code: int, reason: str, message: str) -> Object:
    """A last line that says what went wrong."""
    status = {"kind": "Status", "status": "Failure", "code": code, "reason": reason,
              "message": message}  # fmt: skip
    return {"type": "ERROR", "object": status}
