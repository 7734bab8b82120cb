"""The quick way through the protocol beside uvicorn's own: the same bytes get the same answers."""

import contextlib
import http.client
import io
import json
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bench.standin import build_model, loan_rows
from heliotrope.vocabulary import Role
from predictors.answering import RestAnswers
from predictors.core import PredictionCore
from predictors.hot import HOT_BYTES, HOT_STREAK, HotPaths, HotProtocol
from predictors.loading import LoadedModel, load_model
from predictors.metrics import PredictorMetrics
from predictors.rest import RestApplication

V1, V2 = "/v1/models/loans:predict", "/v2/models/loans/infer"
LIMIT = 400_000
ROWS = loan_rows(3000, seed=9)
NEW_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
Answer = tuple[int, dict[str, str], bytes]


async def inner(scope: Any, _receive: Any, send: Any) -> None:
    """What is behind the hot routes: says which path it was asked for."""
    if scope["type"] != "http":
        return
    body = scope["path"].encode()
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


class Running:
    """A server on a thread."""

    def __init__(self, model: LoadedModel, hot: bool) -> None:
        metrics = PredictorMetrics("loans", model, Role.CHAMPION, None)
        core = PredictionCore("loans", model, metrics, None, 20_000)
        application = RestApplication(inner, RestAnswers(core), LIMIT)
        self.paths = HotPaths(application)
        self.at_once = 0
        self.http = partial(HotProtocol, self.paths) if hot else HttpToolsProtocol
        config = uvicorn.Config(
            application, lifespan="off", log_config=None, access_log=False, ws="none"
        )
        config.http = self.http  # type: ignore[assignment]
        config.server_header = False
        self.server = uvicorn.Server(config)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self.server.run, args=([self.listening],))
        self.thread.start()
        self._count_answers(core)

    def _count_answers(self, core: PredictionCore) -> None:
        plain = self.paths.answers.answer_now

        def counted(*arguments: Any) -> Any:
            reply = plain(*arguments)
            self.at_once += reply is not None
            return reply

        self.paths.answers.answer_now = counted  # type: ignore[method-assign]
        self.core = core

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def exchange(self, pieces: list[bytes]) -> list[Answer]:
        """Send pieces, and read what is answered until the server closes."""
        with self.connect() as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = Reader(link)
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    link.sendall(piece)
            return reader.finish()


class Reader(threading.Thread):
    """Reads while the other side still sends, so that neither waits for the other."""

    def __init__(self, link: socket.socket) -> None:
        super().__init__(daemon=True)
        self.link, self.data = link, bytearray()
        self.start()

    def run(self) -> None:
        with contextlib.suppress(ConnectionError):
            while part := self.link.recv(1 << 16):
                self.data += part

    def finish(self) -> list[Answer]:
        self.join(30)
        assert not self.is_alive(), bytes(self.data[-300:])
        return parse(bytes(self.data))


class Kept:
    """Bytes as the socket that HTTPResponse wants."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream

    def makefile(self, _mode: str) -> "Unclosed":
        return Unclosed(self.stream)


class Unclosed(io.BufferedReader):
    """A view of a stream that another answer will be read from."""

    def __init__(self, stream: io.BufferedReader) -> None:
        super().__init__(stream)  # type: ignore[arg-type]
        self.stream = stream
        self.read, self.readline = stream.read, stream.readline  # type: ignore[method-assign]

    def close(self) -> None:
        """Leave the stream open."""


def parse(data: bytes) -> list[Answer]:
    """Answers without their dates, and with one word for all ids that the server made up."""
    data = NEW_ID.sub(b"an-id-of-the-server-of-36-characters", data)
    stream = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    answers = []
    while stream.peek(1):
        response = http.client.HTTPResponse(Kept(stream))  # type: ignore[arg-type]
        response.begin()
        headers = {k.lower(): v for k, v in response.getheaders() if k.lower() != "date"}
        answers.append((response.status, headers, response.read()))
    return answers


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("model") / "model"
    build_model(folder)
    return load_model(folder, None)


@pytest.fixture
def start(model: LoadedModel) -> Iterator[Callable[[bool], Running]]:
    running: list[Running] = []

    def begin(hot: bool) -> Running:
        running.append(Running(model, hot))
        return running[-1]

    yield begin
    for server in running:
        server.stop()


def request(
    body: bytes,
    *headers: str,
    path: str = V1,
    method: str = "POST",
    version: str = "1.1",
    name: str = "a",
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "host: x", f"x-request-id: {name}", *headers]
    if not any(h.startswith(("content-length", "transfer-encoding")) for h in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def instances(count: int) -> bytes:
    return json.dumps({"instances": [list(row.values()) for row in ROWS[:count]]}).encode()


def chunked(body: bytes, dice: random.Random) -> bytes:
    out = b""
    while body:
        size = dice.randint(1, len(body))
        out += b"%x\r\n%b\r\n" % (size, body[:size])
        body = body[size:]
    return out + b"0\r\n\r\n"


ONE = instances(1)
LAST = request(ONE, "connection: close", name="last")
BODIES = [ONE, ONE, ONE, instances(3), b"{", b"", b'{"instances": []}', b"[1]", b"\xff\xfe"]


def random_request(dice: random.Random, number: int) -> bytes:
    """Any request whose answer leaves the connection open."""
    body, name = dice.choice(BODIES), f"r-{number}"
    kind = dice.randrange(12)
    if kind == 0:
        return request(b"", path="/v2/health/ready", method="GET", name=name)
    if kind == 1:
        return request(chunked(body, dice), "transfer-encoding: chunked", name=name)
    if kind == 2:
        return request(body, "expect: 100-continue", name=name)
    if kind == 3:
        return request(body, "content-type: application/json; charset=UTF-8", name=name)
    if kind == 4:
        return request(body, path=f"{V1}?a=b", name=name)
    if kind == 5:
        return request(instances(400), name=name, path=dice.choice([V1, V2]))
    if kind == 6:
        return request(body, *(f"x-{i}: {'y' * 99}" for i in range(dice.randint(1, 80))), name=name)
    if kind == 7:
        return request(body, path=V1.replace("l", "%6c"), name=name)
    return request(body, path=dice.choice([V1, V1, V1, V2]), name=name)


CLOSING = [
    LAST,
    request(ONE, version="1.0"),
    request(ONE, "content-type: text/csv"),
    request(ONE, "content-encoding: gzip"),
    request(ONE, f"content-length: {LIMIT + 1}"),
    request(b"", method="DELETE"),
]
MALFORMED = [
    request(ONE, "content-length: z"),
    request(ONE, "content-length: -1"),
    request(ONE, "content-length: 9", "content-length: 10"),
    request(ONE, "content-length: 9", "transfer-encoding: chunked"),
    request(ONE, "x: \0"),
    b"\0\1\2 nonsense\r\n\r\n",
]


def split(data: bytes, dice: random.Random) -> list[bytes]:
    most = dice.choice([7, 300, 1 << 20])
    pieces = []
    while data:
        size = dice.randint(1, most)
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def test_whatever_is_pipelined_in_whatever_pieces_is_answered_as_uvicorn_does(
    start: Callable[[bool], Running],
) -> None:
    hot, plain = start(True), start(False)
    dice = random.Random(4)
    for _ in range(60):
        count = dice.choice([0, 1, 2, 5, 2 * HOT_STREAK + 3])
        sent = [random_request(dice, number) for number in range(count)]
        pieces = split(b"".join([*sent, dice.choice(CLOSING)]), dice)
        ours, theirs = hot.exchange(pieces), plain.exchange(pieces)
        assert len(theirs) == count + 1
        assert [(status, body) for status, _, body in ours] == [(s, b) for s, _, b in theirs]
        for (_, mine, _), (_, other, _) in zip(ours, theirs, strict=True):
            assert mine == other
    assert hot.at_once > 40
    assert plain.at_once == 0
    assert hot.core.metrics.requests == plain.core.metrics.requests


@pytest.mark.parametrize("sent", MALFORMED)
def test_what_is_not_http_is_refused_and_what_came_before_is_answered(
    start: Callable[[bool], Running], sent: bytes
) -> None:
    statuses = [s for s, _, _ in start(True).exchange([request(ONE) + request(ONE) + sent])]
    assert statuses == [200, 200, 400]


def test_a_request_that_comes_byte_by_byte_is_answered_at_once(
    start: Callable[[bool], Running],
) -> None:
    server = start(True)
    answers = server.exchange([bytes([byte]) for byte in LAST])
    assert [status for status, _, _ in answers] == [200]
    assert answers[0][1]["x-request-id"] == "last"
    assert server.at_once == 1


def test_large_bodies_and_many_rows_take_the_other_way(start: Callable[[bool], Running]) -> None:
    server = start(True)
    padded = ONE + b" " * (HOT_BYTES - len(ONE) + 1)
    many = json.dumps({"instances": [{}] * 2500}).encode()
    answers = server.exchange([request(padded), request(many), LAST])
    assert [status for status, _, _ in answers] == [200, 400, 200]
    server.paths.most = LIMIT
    batch = instances(2500)
    assert len(batch) < LIMIT
    before = server.at_once
    found = server.exchange([request(batch, "connection: close")])
    assert [len(json.loads(body)["predictions"]) for _, _, body in found] == [2500]
    assert server.at_once == before


def test_a_half_closed_client_gets_its_answers(start: Callable[[bool], Running]) -> None:
    with start(True).connect() as link:
        reader = Reader(link)
        link.sendall(request(ONE, name="one") + request(ONE, name="two"))
        link.shutdown(socket.SHUT_WR)
        found = [headers["x-request-id"] for _, headers, _ in reader.finish()]
    assert found == ["one", "two"]


def test_nothing_behind_a_closing_request_is_scored(start: Callable[[bool], Running]) -> None:
    server = start(True)
    answers = server.exchange([LAST + request(ONE, name="behind") * 3])
    assert [headers["x-request-id"] for _, headers, _ in answers] == ["last"]
    assert server.core.metrics.requests["v1", 200] == 1


def test_a_client_that_does_not_read_is_waited_for_and_holds_up_nobody(
    start: Callable[[bool], Running],
) -> None:
    server = start(True)
    connections = server.server.server_state.connections
    block = request(instances(100)) * 4
    with server.connect() as link:
        link.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            for _ in range(1000):
                link.sendall(block)
        for _ in range(1000):
            if any(connection.flow.write_paused for connection in connections):
                break
            threading.Event().wait(0.02)
        else:
            pytest.fail("the server goes on writing")
        with server.connect() as other:
            other.sendall(LAST)
            assert Reader(other).finish()[0][0] == 200


def test_a_request_under_way_is_answered_before_a_stopping_server_closes(
    start: Callable[[bool], Running],
) -> None:
    server = start(True)
    whole = request(ONE, name="late")
    with server.connect() as link, server.connect() as idle:
        reader, idling = Reader(link), Reader(idle)
        link.sendall(request(ONE, name="first") + whole[:-5])
        idle.sendall(request(ONE))
        while len(server.server.server_state.connections) < 2 or server.at_once < 2:
            threading.Event().wait(0.01)
        server.server.should_exit = True
        assert len(idling.finish()) == 1
        link.sendall(whole[-5:])
        answers = reader.finish()
    assert [headers["x-request-id"] for _, headers, _ in answers] == ["first", "late"]
    assert answers[-1][1]["connection"] == "close"
