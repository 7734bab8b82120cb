"""What an API server keeps: objects with uid, resourceVersion and generation, and what became of
them, version by version, for those who watch."""

import copy
import uuid
from dataclasses import dataclass, field
from threading import Condition, RLock
from typing import Any

from tests.emulated.field_managers import Owners, merged

Object = dict[str, Any]
Key = tuple[str, str, str, str]
"""Group, plural, namespace, name."""


@dataclass
class Stored:
    """An object and who owns its fields."""

    value: Object
    owners: Owners = field(default_factory=Owners)


@dataclass(frozen=True)
class Change:
    """What became of an object; None where there was or is none."""

    version: int
    key: Key
    before: Object | None
    after: Object | None


class ObjectStore:
    """Everything of one cluster. Versions rise by one with each change of any object."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.changed = Condition(self.lock)
        self.objects: dict[Key, Stored] = {}
        self.version = 100
        self.forgotten = 100
        """Changes up to this version are not remembered any more."""
        self._history: list[Change] = []

    def find(self, plural: str, name: str) -> Object | None:
        """An object, for controllers and tests."""
        with self.lock:
            for (_, kind, _, known), stored in self.objects.items():
                if (kind, known) == (plural, name):
                    return copy.deepcopy(stored.value)
        return None

    def every(self, plural: str) -> list[Object]:
        """All of a kind."""
        with self.lock:
            return [copy.deepcopy(s.value) for k, s in self.objects.items() if k[1] == plural]

    def put(self, key: Key, value: Object, manager: str = "controller") -> None:
        """Write as a controller does: status too, no checks."""
        with self.lock:
            stored = self.objects.get(key)
            before = stored.value if stored else {}
            after = {**copy.deepcopy(value), "metadata": {**(value.get("metadata") or {})}}
            if stored is None:
                stored = self.objects[key] = Stored({})
            self.store(stored, before, after, key)

    def drop(self, key: Key) -> Object | None:
        """Delete as a controller does; the object as it was."""
        with self.lock:
            stored = self.objects.pop(key, None)
            if stored is None:
                return None
            self._happened(key, stored.value, None)
            return stored.value

    def edit(self, plural: str, name: str, patch: Object, manager: str) -> None:
        """What a person does by hand."""
        with self.lock:
            key = next(k for k in self.objects if (k[1], k[3]) == (plural, name))
            stored = self.objects[key]
            after = merged(stored.value, patch)
            stored.owners.update(stored.value, after, manager)
            self.store(stored, stored.value, after, key)

    def store(self, stored: Stored, before: Object, after: Object, key: Key) -> bool:
        """Keep a new value; False where nothing changed."""
        plain = {k: v for k, v in before.items() if k != "metadata"}
        metadata = {
            k: v for k, v in after["metadata"].items()
            if k not in ("resourceVersion", "managedFields", "generation", "uid")
        }  # fmt: skip
        old = {k: v for k, v in (before.get("metadata") or {}).items() if k in metadata}
        same = plain == {k: v for k, v in after.items() if k != "metadata"} and old == metadata
        if before and same:
            return False
        had = before.get("metadata") or {}
        moved = before.get("spec") != after.get("spec")
        after["metadata"] = {
            **metadata,
            "name": key[3],
            "uid": had.get("uid") or str(uuid.uuid4()),
            "resourceVersion": str(self.version + 1),
            "generation": int(had.get("generation", 0)) + bool(moved or not before),
        }
        if key[2]:
            after["metadata"]["namespace"] = key[2]
        stored.value = after
        self._happened(key, before or None, after)
        return True

    def since(self, version: int) -> list[Change]:
        """What happened after a version that is not forgotten."""
        with self.lock:
            return [change for change in self._history if change.version > version]

    def forget(self) -> None:
        """As etcd is compacted: nobody can go on from before this moment."""
        with self.lock:
            self._history, self.forgotten = [], self.version
            self.changed.notify_all()

    def _happened(self, key: Key, before: Object | None, after: Object | None) -> None:
        self.version += 1
        # Values are replaced, never changed, so that they may be kept as they are.
        self._history.append(Change(self.version, key, before, after))
        self.changed.notify_all()
