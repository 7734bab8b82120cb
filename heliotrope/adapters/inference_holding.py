"""Whether an object that is there has all that is wanted of it."""

import copy
from typing import Any

Object = dict[str, Any]


def holds(found: Object | None, wanted: Object) -> bool:
    """Whether an object has all that is wanted; what webhooks and others added does not count.

    >>> holds({"spec": {"a": 1, "theirs": 2}}, {"spec": {"a": 1}})
    True
    >>> holds({"data": {"1": "champion", "2": "shadow"}}, {"data": {"1": "champion"}})
    False
    """
    return found is not None and _within(wanted, _owned(found, wanted))


def _owned(found: Object, wanted: Object) -> Object:
    part = copy.copy(found)
    if "data" in wanted:
        # A role that is no longer wanted must go.
        part["data"] = (found.get("data") or {}) if found.get("data") == wanted["data"] else {}
    return part


def _within(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, dict):
        fields = found if isinstance(found, dict) else {}
        return all(_within(value, fields.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list):
        items = found if isinstance(found, list) else []
        if wanted and all(isinstance(one, dict) and one.get("name") for one in wanted):
            # Webhooks add variables, volumes and mounts of their own.
            named = {one.get("name"): one for one in items if isinstance(one, dict)}
            return all(_within(one, named.get(one["name"])) for one in wanted)
        return len(wanted) == len(items) and all(map(_within, wanted, items))
    # Go leaves out what is empty.
    return bool(wanted == found) or (found is None and wanted in ("", None))
