"""What an answer of Kubernetes' API means: an object, another try, or an error that says why."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from heliotrope.adapters.cluster.access import Account
from heliotrope.errors import (
    ConflictError,
    HeliotropeError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)

JSON: Final = "application/json"

Object = dict[str, Any]
"""An object of Kubernetes as JSON has it."""


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    what: str
    """For messages."""
    query: Mapping[str, str]
    body: Object | None = None
    content: str = JSON
    repeatable: bool = True
    """A repetition cannot do something twice."""


class Again(Exception):
    """The server may answer if asked again."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class FieldConflict(ConflictError):
    """Another manager owns a field that was applied."""


class Missing(NotFoundError):
    """This one object is not there."""


class Expired(HeliotropeError):
    """A list's continue token, or the version that a watch begins at, is too old."""


def read_answer(
    call: Call, status: int, data: bytes, after: str | None, account: Account
) -> Object:
    """The object that was answered.

    Args:
        call: that it answers.
        status: of HTTP.
        data: its body.
        after: its header Retry-After.
        account: whose the call was.

    Raises:
        Again: nothing was done, or to do it again does no harm.
        HeliotropeError: what the status means.
    """
    try:
        found = json.loads(data)
    except ValueError:
        found = {}
    told: Object = found if isinstance(found, dict) else {}
    if 200 <= status < 300:
        return told
    text = str(told.get("message") or data[:300].decode(errors="replace")).strip()
    said = f"Got {status}: {text}" + ("" if text.endswith(".") else ".")
    if status == 429:
        # The server did nothing yet, so that any call may be repeated.
        raise Again(said, _seconds(after))
    if status >= 500:
        if call.repeatable:
            raise Again(said, _seconds(after))
        raise UnavailableError(
            f"Kubernetes' API must answer to {call.what}; whether it was done is not known. {said}"
        )
    raise _error(call, status, told, said, account)


def _error(call: Call, code: int, status: Object, said: str, account: Account) -> HeliotropeError:
    details = status.get("details") or {}
    if code == 404:
        if details.get("name") and details.get("kind") != "namespaces":
            return Missing(f"{call.what}: it must be there. {said}")
        return NotFoundError(f"{call.what}: the cluster must have its kind and namespace. {said}")
    if code == 409:
        owned = any(
            cause.get("reason") == "FieldManagerConflict" for cause in details.get("causes") or []
        )
        kind = FieldConflict if owned else ConflictError
        return kind(f"{call.what} must not meet another's change. {said}")
    if code == 410:
        return Expired(said)
    if code in (401, 403):
        return UnavailableError(
            f"The account {account} must be allowed to {call.what}; its Role, token and namespace "
            f"decide. {said}"
        )
    causes = "; ".join(
        f"{cause.get('field', '')} {cause.get('message', '')}".strip()
        for cause in details.get("causes") or []
    )
    return RefusedError(f"{call.what} must be valid. {said}" + (f" {causes}." if causes else ""))


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; dates are not what Kubernetes sends."""
    return float(text) if text and text.isdigit() else None
