"""The little of HTTP that a collector needs, on raw ASGI: a framework's layers cost more than a
label's whole work."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from heliotrope.service.group_commit import ByteBudget

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
BODY_SECONDS = 60.0
_JSON = (b"content-type", b"application/json")


@dataclass(frozen=True)
class Reply:
    """An answer: JSON of a value, or raw bytes with their type."""

    status: int
    value: Any = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    raw: bytes | None = None

    async def send(self, send: Send) -> None:
        """Send it whole."""
        body = orjson.dumps(self.value) if self.raw is None else self.raw
        kind = (_JSON,) if self.raw is None else ()
        length = (b"content-length", str(len(body)).encode())
        await send(
            {
                "type": "http.response.start",
                "status": self.status,
                "headers": [*kind, length, *self.headers],
            }
        )
        await send({"type": "http.response.body", "body": body})


class Refusal(Exception):
    """A request that is answered with an error; `reply` says which."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        retry_after: int | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        **more: Any,
    ) -> None:
        super().__init__(message)
        if retry_after is not None:
            headers = (*headers, (b"retry-after", str(retry_after).encode()))
        self.reply = Reply(status, {"error": message, **more}, headers)


@dataclass
class Held:
    """Bytes of the budget that one request holds until it is answered."""

    budget: ByteBudget
    size: int = 0

    def take(self, size: int) -> None:
        """Hold more.

        Raises:
            Refusal: 429, they are not free.
        """
        if not self.budget.reserve(size):
            raise Refusal(
                429,
                f"requests must wait: {self.budget.used} of {self.budget.limit} bytes are held.",
                retry_after=1,
            )
        self.size += size

    def release(self) -> None:
        """Give everything back."""
        self.budget.release(self.size)
        self.size = 0


@dataclass
class Request:
    """A request's head, and how to read its body."""

    scope: Scope
    receive: Receive
    held: Held
    headers: dict[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = dict(self.scope["headers"])

    def header(self, name: str) -> str | None:
        """A header's text."""
        value = self.headers.get(name.encode())
        return None if value is None else value.decode("latin-1")

    async def body(self, limit: int) -> bytes:
        """Read the body, holding its bytes in the budget before they are read.

        Raises:
            Refusal: 413 it is larger than the limit, 429 there is no room, 408 it is too slow,
                400 the client went away.
        """
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit():
            if int(declared) > limit:
                raise _too_large(limit)
            self.held.take(int(declared))
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._read(limit)
        except TimeoutError:
            raise Refusal(408, f"the body must arrive within {BODY_SECONDS:g} s.") from None

    async def _read(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Refusal(400, "the body must be whole.")
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            if size > self.held.size:
                self.held.take(size - self.held.size)
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"the body must be at most {limit} bytes.", limit_bytes=limit)
