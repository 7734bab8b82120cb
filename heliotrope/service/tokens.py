"""Who may write: bearer tokens and what each may do. Tokens are compared in constant time."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from heliotrope.errors import UsageError

SHORTEST = 16


class Scope(StrEnum):
    """What a token's holder may do."""

    SPOOLS = "spools"
    """Send prediction batches."""
    LABELS = "labels"
    """Send labels."""
    ALERTS = "alerts"
    """Tell the controller of alerts."""
    ORDERS = "orders"
    """Give the controller a person's orders."""


class Access(StrEnum):
    """What a request may do."""

    GRANTED = "granted"
    """Its token allows this."""
    UNKNOWN = "unknown"
    """It shows no token, or none that is known."""
    FORBIDDEN = "forbidden"
    """Its token is known and does not allow this."""


@dataclass(frozen=True)
class TokenRing:
    """Known tokens, as hashes, so that nothing printed or logged can hold one."""

    _scopes: dict[bytes, frozenset[Scope]] = field(repr=False)

    @classmethod
    def parse(cls, lines: Iterable[str], source: str) -> "TokenRing":
        """Read `<token> [spools] [labels]` lines; a token alone may do everything.

        Raises:
            UsageError: there is none, one is short, or a scope is unknown. Tokens are not quoted.
        """
        scopes: dict[bytes, frozenset[Scope]] = {}
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words[0]) < SHORTEST:
                raise UsageError(
                    f"{source} line {number}: a token must have {SHORTEST} characters or more. "
                    f"Got {len(words[0])}."
                )
            unknown = [word for word in words[1:] if word not in set(Scope)]
            if unknown:
                raise UsageError(
                    f"{source} line {number}: a scope must be one of {', '.join(Scope)}. "
                    f"Got {len(unknown)} other word(s)."
                )
            granted = frozenset(Scope(word) for word in words[1:]) or frozenset(Scope)
            scopes[sha256(words[0].encode()).digest()] = granted
        if not scopes:
            raise UsageError(f"{source} must hold a token. Got none.")
        return cls(scopes)

    def access(self, authorization: bytes | None, scope: Scope | None) -> Access:
        """Judge an Authorization header; `scope` None needs any known token."""
        kind, _, token = (authorization or b"").partition(b" ")
        if kind.lower() != b"bearer":
            return Access.UNKNOWN
        shown = sha256(token.strip()).digest()
        found: frozenset[Scope] | None = None
        for digest, scopes in self._scopes.items():
            # No early exit: how long it takes must not tell which token was nearly right.
            if hmac.compare_digest(digest, shown):
                found = scopes
        if found is None:
            return Access.UNKNOWN
        return Access.GRANTED if scope is None or scope in found else Access.FORBIDDEN
