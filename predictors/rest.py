"""The two hot REST routes as a raw ASGI application, in front of KServe's own.

`POST /v1/models/<m>:predict` and `POST /v2/models/<m>/infer` are answered here, before KServe's
middleware, routing and body models, which cost more than the model does. Health, metadata and
metrics are still KServe's. Nothing else reaches it: loading and unloading over the network, and
routes whose errors repeat what was sent, answer 404.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from heliotrope.domain.spool_format import REPLAY
from heliotrope.vocabulary import HEADER_MODEL_VERSION, HEADER_REPLAY, HEADER_REQUEST_ID
from predictors.answering import BROKEN, RestAnswers
from predictors.core import check_request_id, new_request_id
from predictors.refusals import Refused, no_such_model

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
_ID = HEADER_REQUEST_ID.encode()
_REPLAY = HEADER_REPLAY.encode()
_CLOSING = (413, 415)
"""Answered before the body was read, so the connection cannot be used again."""


class _Gone(Exception):
    """The client went away before its request was whole."""


class RestApplication:
    """Answers the hot routes itself, refuses what is not offered, and hands on the rest."""

    def __init__(self, inner: Application, answers: RestAnswers, max_body_bytes: int) -> None:
        self._inner = inner
        self.answers = answers
        self.max_body_bytes = max_body_bytes
        self._core = core = answers.core
        self._version = (HEADER_MODEL_VERSION.encode(), core.version.encode("latin-1", "replace"))
        one, two = f"/v1/models/{core.name}", f"/v2/models/{core.name}"
        self._versioned = f"{two}/versions/{core.version}"
        self.hot = {
            f"{one}:predict": "v1",
            f"{two}/infer": "v2",
            f"{self._versioned}/infer": "v2",
        }
        """Protocol of each hot path."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._inner(scope, receive, send)
            return
        protocol = self.hot.get(scope["path"])
        if protocol is not None and scope["method"] == "POST":
            await self._predict(protocol, scope["headers"], receive, send)
        else:
            await self._other(scope, receive, send)

    async def _predict(self, protocol: str, headers: Headers, receive: Receive, send: Send) -> None:
        try:
            protocol, given, length = check_headers(protocol, headers)
            body = await self._read(receive, length)
        except Refused as refused:
            reply = self.answers.refuse(protocol, refused)
        except _Gone:
            return
        else:
            reply = await self.answers.answer(protocol, given, body)
        await self._send(send, *reply)

    async def _read(self, receive: Receive, length: int | None) -> bytes:
        most = self.max_body_bytes
        if length is not None and length > most:
            raise self._too_large(length)
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        parts = [message["body"]]
        size = len(parts[0])
        while message.get("more_body"):
            if size > most:
                raise self._too_large(None)
            message = await receive()
            if message["type"] != "http.request":
                raise _Gone
            parts.append(message["body"])
            size += len(parts[-1])
        if size > most:
            raise self._too_large(size)
        return b"".join(parts)

    def _too_large(self, size: int | None) -> Refused:
        got = "more" if size is None else str(size)
        return Refused(413, f"The body must be at most {self.max_body_bytes} bytes. Got {got}.")

    async def _send(
        self, send: Send, status: int, request_id: str, body: bytes, *extra: tuple[bytes, bytes]
    ) -> None:
        headers = [
            _JSON,
            (b"content-length", b"%d" % len(body)),
            (_ID, request_id.encode()),
            self._version,
            *extra,
        ]
        if status in _CLOSING:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _other(self, scope: Message, receive: Receive, send: Send) -> None:
        request_id = new_request_id()
        for name, value in scope["headers"]:
            if name == _ID and _usable(value):
                request_id = value.decode()
        refused = self._refusal(scope["method"], scope["path"])
        if refused is not None:
            allow = ((b"allow", b"POST"),) if refused.status == 405 else ()
            close = () if scope["method"] in ("GET", "HEAD") else ((b"connection", b"close"),)
            answer = self.answers.error(str(refused), request_id)
            await self._send(send, refused.status, request_id, answer, *allow, *close)
            return
        path = scope["path"]
        if path == self._versioned or path.startswith(self._versioned + "/"):
            plain = f"/v2/models/{self._core.name}" + path[len(self._versioned) :]
            scope = {**scope, "path": plain, "raw_path": plain.encode()}
        await self._inner(scope, receive, self._marked(send, request_id))

    def _refusal(self, method: str, path: str) -> Refused | None:
        """Why a request is not for KServe, or None when it is."""
        name, parts = self._core.name, path.split("/")
        if path in self.hot:
            return Refused(405, f"The method must be POST. Got {method[:20]}.")
        if path.startswith("/v2/repository"):
            return Refused(404, "Models are not loaded or unloaded over the network.")
        if len(parts) > 3 and parts[2] == "models" and parts[1] in ("v1", "v2"):
            asked, _, verb = parts[3].partition(":")
            if asked != name:
                return no_such_model(asked, name)
            if verb:
                return Refused(404, f"The verb must be predict. Got {verb[:40]}.")
            if len(parts) > 5 and parts[4] == "versions" and parts[5] != self._core.version:
                must = f"The version must be {self._core.version}"
                return Refused(404, f"{must}. Got {parts[5][:80]}.")
        if method not in ("GET", "HEAD"):
            return Refused(404, f"There is nothing at this path for {method[:20]}.")
        return None

    def _marked(self, send: Send, request_id: str) -> Send:
        """Put our headers on KServe's answers, and our words in place of its internal errors."""
        replaced = False

        async def marked(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                if message["status"] == 500:
                    replaced = True
                    await self._send(send, 500, request_id, self.answers.error(BROKEN, request_id))
                    return
                own = [(_ID, request_id.encode()), self._version]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            if not replaced:
                await send(message)

        return marked


def _usable(value: bytes) -> bool:
    try:
        check_request_id(value.decode("latin-1"), HEADER_REQUEST_ID)
    except Refused:
        return False
    return True


def check_headers(protocol: str, headers: Headers) -> tuple[str, str | None, int | None]:
    """The path's protocol or that of the log repeated, which is in v1 only; the caller's id; the
    body's length. Refuses bodies that are not plain JSON."""
    given, length = None, None
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        elif name == b"content-type":
            if value != b"application/json":
                _check_content_type(value)
        elif name == _ID:
            given = value.decode("latin-1")
        elif name == _REPLAY and protocol == "v1":
            protocol = REPLAY
        elif name == b"content-encoding" and value != b"identity":
            raise Refused(415, "content-encoding must be left out. Send the body as it is.")
        elif name == b"inference-header-content-length":
            must = "be left out: binary tensors are not read over REST, send them over gRPC"
            raise Refused(415, f"inference-header-content-length must {must}.")
    return protocol, given, length


def _check_content_type(value: bytes) -> None:
    kind, *parameters = value.decode("latin-1").lower().split(";")
    charsets = [p.strip() for p in parameters if p.strip().startswith("charset=")]
    utf8 = all(c.split("=", 1)[1].strip("\"'") in ("utf-8", "utf8", "us-ascii") for c in charsets)
    if kind.strip() != "application/json" or not utf8:
        shown = value.decode("latin-1")[:80]
        raise Refused(415, f"content-type must be application/json, in UTF-8. Got {shown}.")
