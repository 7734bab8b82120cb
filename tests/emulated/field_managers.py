"""Server-side apply on JSON: who owns which field, conflicts, and what goes when it is left out.

Maps are merged, lists are atomic, as they are for custom resources without list types.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str, ...]
_OWN = {
    ("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"),
    ("metadata", "resourceVersion"), ("metadata", "uid"), ("metadata", "generation"),
    ("metadata", "creationTimestamp"), ("metadata", "managedFields"),
}  # fmt: skip


class Conflict(Exception):
    """Other managers own fields; `fields` has each with its owner."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        super().__init__(f"Apply failed with {len(fields)} conflict(s)")
        self.fields = fields


@dataclass
class Owners:
    """Fields by manager."""

    owned: dict[str, set[Path]] = field(default_factory=dict)

    def apply(self, live: Any, wanted: Any, manager: str, *, force: bool) -> Any:
        """The object after an apply; raises Conflict."""
        new = leaves(wanted)
        found = [
            (".".join(path), other)
            for other, theirs in self.owned.items()
            for path in sorted(theirs & new.keys())
            if other != manager and value_at(live, path) != new[path]
        ]
        if found and not force:
            raise Conflict(found)
        after = copy.deepcopy(live)
        others = set().union(*(p for m, p in self.owned.items() if m != manager), set())
        for path in self.owned.get(manager, set()) - new.keys() - others:
            remove(after, path)
        for path, value in new.items():
            place(after, path, copy.deepcopy(value))
        self._take(manager, set(new), {tuple(text.split(".")) for text, _ in found})
        # Fields that are not nullable lose their nulls before they are stored.
        self.owned[manager] -= {path for path, value in new.items() if value is None}
        return prune(after)

    def update(self, before: Any, after: Any, manager: str) -> None:
        """Fields that a plain write changed are its writer's."""
        old, new = leaves(before), leaves(after)
        changed = {path for path, value in new.items() if old.get(path, ...) != value}
        gone = old.keys() - new.keys()
        for paths in self.owned.values():
            paths -= changed | gone
        self.owned.setdefault(manager, set()).update(changed)

    def _take(self, manager: str, new: set[Path], forced: set[Path]) -> None:
        for other, theirs in self.owned.items():
            if other != manager:
                theirs -= {path for path in new if ".".join(path) in map(".".join, forced)}
        self.owned[manager] = set(new)


def leaves(found: Any, at: Path = ()) -> dict[Path, Any]:
    """Every field that is no map, by path; an empty map is a field."""
    if isinstance(found, dict) and (found or not at):
        every: dict[Path, Any] = {}
        for key, value in found.items():
            if (*at, key) not in _OWN and (*at, key)[0] != "status":
                every |= leaves(value, (*at, key))
        return every
    return {at: found}


def value_at(found: Any, path: Path) -> Any:
    """What is at a path, or None."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def place(found: Any, path: Path, value: Any) -> None:
    """Put a value at a path."""
    for key in path[:-1]:
        if not isinstance(found.get(key), dict):
            found[key] = {}
        found = found[key]
    found[path[-1]] = value


def remove(found: Any, path: Path) -> None:
    """Take a field away, and the maps that are empty without it."""
    if len(path) > 1:
        inner = found.get(path[0])
        if isinstance(inner, dict):
            remove(inner, path[1:])
            if not inner:
                del found[path[0]]
    else:
        found.pop(path[0], None)


def prune(found: Any) -> Any:
    """Without nulls."""
    if isinstance(found, dict):
        return {key: prune(value) for key, value in found.items() if value is not None}
    return found


def merged(live: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    after = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            after.pop(key, None)
        else:
            after[key] = merged(after.get(key), value)
    return after
