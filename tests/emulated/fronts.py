"""HTTP in front of the emulated pods: a listener a host, which splits as the routes say now."""

import http.client
import random
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

Pick = Callable[[str, float], int | None]
"""The port that takes a request to a host, by a draw from 0 to 100; None while there is none."""
PATIENCE = 60.0
TRIES = 5


class Fronts:
    """Listeners by host, made when first asked for.

    Args:
        pick: who takes a request; it is that port's until `done` is called.
        done: a request to a port is over.
        seed: of the draws.
    """

    def __init__(self, pick: Pick, done: Callable[[int], None], seed: int = 11) -> None:
        self._done = done
        self._pick, self._random, self._lock = pick, random.Random(seed), Lock()
        self._servers: dict[str, tuple[ThreadingHTTPServer, Thread]] = {}

    def url(self, host: str) -> str:
        """Base URL of a host."""
        with self._lock:
            if host not in self._servers:
                server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(host))
                server.daemon_threads = True
                thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
                thread.start()
                self._servers[host] = (server, thread)
            return f"http://127.0.0.1:{self._servers[host][0].server_address[1]}"

    def stop(self) -> None:
        """Stop listening."""
        for server, thread in self._servers.values():
            server.shutdown()
            thread.join()
            server.server_close()

    def _port(self, host: str) -> int | None:
        """As Knative's activator and gateways with retries do, a request waits for a pod."""
        with self._lock:
            draw = self._random.random() * 100
        end = time.monotonic() + PATIENCE
        while (port := self._pick(host, draw)) is None and time.monotonic() < end:
            time.sleep(0.02)
        return port

    def _handler(self, host: str) -> type[BaseHTTPRequestHandler]:
        fronts = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                for _ in range(TRIES):
                    port = fronts._port(host)
                    if port is None:
                        self._say(503, {}, b"no healthy upstream")
                        return
                    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                    try:
                        link.connect()
                        break
                    except OSError:
                        # The pod went meanwhile; the request was not sent, so another may have it.
                        link.close()
                        fronts._done(port)
                else:
                    self._say(503, {}, b"no pod takes a connection")
                    return
                try:
                    link.request(self.command, self.path, body, dict(self.headers))
                    answer = link.getresponse()
                    said = answer.read()
                    self._say(answer.status, dict(answer.getheaders()), said)
                except (OSError, http.client.HTTPException) as error:
                    self._say(502, {}, str(error).encode())
                finally:
                    link.close()
                    fronts._done(port)

            def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = forward

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        return Handler
