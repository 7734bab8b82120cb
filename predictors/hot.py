"""uvicorn's HTTP protocol, which answers a small prediction where it was parsed.

A task, a scope, two events and two messages a request are most of what ASGI costs a prediction that
takes 50 microseconds. So a plain request to a hot path (HTTP/1.1, a known length, small, nothing
under way on its connection) is answered in the parser's own callback, in one write. Every other one
takes uvicorn's way and meets the ASGI application, which answers the same.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from heliotrope.vocabulary import HEADER_MODEL_VERSION, HEADER_REQUEST_ID
from predictors.refusals import Refused
from predictors.rest import Headers, RestApplication, check_headers

HOT_BYTES = 1 << 18
"""Larger bodies are read the ASGI way, which holds the sender back."""
HOT_STREAK = 16
"""Requests of one read that are answered at once; a longer pipeline waits its turn."""
_HEAD = f"content-type: application/json\r\n{HEADER_MODEL_VERSION}: %s\r\n{HEADER_REQUEST_ID}: "
_ANSWER = b"%b%b\r\ncontent-length: %d\r\n%b\r\n%b"
_CLOSE = b"connection: close\r\n"


class _Heads:
    """The beginning of an answer's head by status, as long as uvicorn's default headers stay.

    uvicorn makes a new list of them every second, with the date in it.
    """

    def __init__(self, version: str) -> None:
        self._own = (_HEAD % version).encode("latin-1", "replace")
        self._defaults: Headers | None = None
        self._made: dict[int, bytes] = {}

    def of(self, status: int, defaults: Headers) -> bytes:
        """Everything up to the request id."""
        if defaults is not self._defaults:
            self._defaults, self._made = defaults, {}
        head = self._made.get(status)
        if head is None:
            lines = b"".join(b"%b: %b\r\n" % header for header in defaults)
            head = self._made[status] = STATUS_LINE[status] + lines + self._own
        return head


class HotPaths:
    """What all connections of a server share."""

    def __init__(self, application: RestApplication) -> None:
        self.answers = application.answers
        self.protocols = {path.encode(): name for path, name in application.hot.items()}
        self.most = min(HOT_BYTES, application.max_body_bytes)
        self.heads = _Heads(application.answers.core.version)


class HotProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, paths: HotPaths, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._paths = paths
        # uvicorn's way also logs and limits.
        self._plain = not self.access_log and self.limit_concurrency is None
        self._hot: str | None = None
        """The protocol of a hot request that is being read."""
        self._given: str | None = None
        self._parts: list[bytes] = []
        self._streak = 0
        self._closing = False
        self._deaf = False

    def data_received(self, data: bytes) -> None:
        """Bytes of one read: some of a request, or several."""
        self._streak = 0
        super().data_received(data)

    def on_message_begin(self) -> None:
        """The scope is made when the request turns out to need one."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._hot = None

    def on_headers_complete(self) -> None:
        """Choose the request's way."""
        # What follows an answer that closed the connection is not to be acted on (RFC 9112, 9.6).
        self._deaf = self.transport.is_closing()
        if self._deaf:
            return
        protocol = self._paths.protocols.get(self.url)
        if protocol is None or not self._may_be_hot():
            self._hand_on()
            return
        try:
            protocol, self._given, length = check_headers(protocol, self.headers)
        except Refused:
            length = None
        if length is None or length > self._paths.most:
            self._hand_on()
            return
        self._hot = protocol
        self._parts = []

    def _may_be_hot(self) -> bool:
        parser = self.parser
        return (
            self._plain
            and self._streak < HOT_STREAK
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and not self.expect_100_continue
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )

    def _hand_on(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._hot is not None:
            self._parts.append(body)
        elif not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole: answer it if it is hot."""
        if self._hot is None:
            if not self._deaf:
                super().on_message_complete()
            return
        protocol, self._hot = self._hot, None
        body = b"".join(self._parts)
        self._parts = []
        reply = self._paths.answers.answer_now(protocol, self._given, body)
        if reply is None:
            self._hand_on()
            super().on_body(body)
            super().on_message_complete()
            return
        self._streak += 1
        status, request_id, answer = reply
        head = self._paths.heads.of(status, self.server_state.default_headers)
        stays = self.parser.should_keep_alive() and not self._closing
        end = b"" if stays else _CLOSE
        self.transport.write(_ANSWER % (head, request_id.encode(), len(answer), end, answer))
        if not stays:
            self.transport.close()
        self.on_response_complete()

    def shutdown(self) -> None:
        """Close, but not before a request that is being read was answered."""
        if self._hot is None:
            super().shutdown()
        else:
            self._closing = True
