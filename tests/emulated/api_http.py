"""HTTP in front of an emulated API server: answers, watches that go on, and faults."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from threading import RLock
from typing import Any, Protocol

from tests.emulated.api_watch import Watch


class Refuse(Exception):
    """An answer that is no object: a status."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.details = code, details
        self.body = {
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
            "reason": reason, "code": code, "details": details,
        }  # fmt: skip


@dataclass
class Fault:
    """Answers that are no answers."""

    status: int
    """0 closes the connection."""
    times: int
    after: bool = False
    """The deed is done before."""
    retry_after: str | None = None
    method: str | None = None
    within: str = ""
    """A part of the paths that it befalls."""


class Api(Protocol):
    """What answers."""

    lock: RLock
    faults: list[Fault]
    watches: list[Watch]

    def answer(self, method: str, target: str, token: str, kind: str, body: bytes) -> Any:
        """An object, or a watch; raises Refuse."""
        ...


def handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            fault = _fault(api, self.command, self.path)
            if fault is not None and not fault.after:
                self._fail(fault)
                return
            token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
            kind = self.headers.get("content-type") or ""
            try:
                code, found = 200, api.answer(self.command, self.path, token, kind, body)
                if isinstance(found, Watch):
                    self._tell(found)
                    return
                text = json.dumps(found)
            except Refuse as error:
                code, text = error.code, json.dumps(error.body)
                if not error.details and code == 404:
                    text = "404 page not found\n"
            if fault is not None:
                self._fail(fault)
                return
            self._say(code, text, {})

        def _tell(self, watch: Watch) -> None:
            """Line by line, each a chunk, as Go's server flushes them."""
            with api.lock:
                api.watches.append(watch)
            try:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for event in watch.events():
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                if not watch.cut:
                    self.wfile.write(b"0\r\n\r\n")
            except OSError:
                watch.cut = True  # who watched has gone
            finally:
                with api.lock:
                    api.watches.remove(watch)
            self.close_connection = watch.cut

        def _fail(self, fault: Fault) -> None:
            if fault.status == 0:
                self.close_connection = True
                return
            after = {"retry-after": fault.retry_after} if fault.retry_after is not None else {}
            self._say(fault.status, "the server is unwell", after)

        def _say(self, code: int, text: str, headers: Mapping[str, str]) -> None:
            data = text.encode()
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


def _fault(api: Api, method: str, path: str) -> Fault | None:
    with api.lock:
        for fault in api.faults:
            if fault.times > 0 and fault.method in (None, method) and fault.within in path:
                fault.times -= 1
                return fault
    return None
