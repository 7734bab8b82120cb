"""In a container everything dies with the predictor, so it ships what is spooled before it ends."""

import errno
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliotrope.domain.serving import ServingContract
from heliotrope.domain.spool_batch import decode_batch
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import ENV_COLLECTOR_TOKEN, ENV_COLLECTOR_URL, Role, Task
from predictors import shipper
from predictors.shipper import shipping
from predictors.spool import Spool, SpoolOptions

CONTRACT = ServingContract(
    model="m",
    task=Task.BINARY,
    features=(Feature(name="x", type=FeatureType.FLOAT),),
    classes=("no", "yes"),
    threshold=0.5,
)


class Collector(ThreadingHTTPServer):
    """Takes every batch that follows the last one; 503 to the first `refusals` requests."""

    def __init__(self, refusals: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.refusals = refusals
        self.names: list[str] = []
        self.asked = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.set()
        if self.server.refusals:
            self.server.refusals -= 1
            self._answer(503, {"error": "busy"})
            return
        batch = decode_batch(body)
        self.server.names += batch.request_ids
        self._answer(200, {"watermark": int(batch.sequences[-1]), "rows": 1, "duplicate": False})

    def _answer(self, status: int, document: dict[str, object]) -> None:
        text = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def collector(request: pytest.FixtureRequest) -> Iterator[Collector]:
    with Collector(request.param) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def environment(server: Collector) -> dict[str, str]:
    return {
        ENV_COLLECTOR_URL: f"http://127.0.0.1:{server.server_port}",
        ENV_COLLECTOR_TOKEN: "a-token-for-tests-only",
    }


def write(folder: Path, count: int) -> list[str]:
    spool = Spool(SpoolOptions(folder, 1 << 20, 60.0, 1 << 30), CONTRACT, "1", Role.CHAMPION)
    names = [f"request-{n}" for n in range(count)]
    for name in names:
        spool.append(
            name,
            "v1",
            np.ones((1, 1), np.float32),
            np.full(1, 0.5, np.float32),
            np.zeros(1, np.uint16),
            None,
            1_795_000_000_000_000_000,
            1000,
        )
    spool.close()
    return names


@pytest.mark.parametrize("collector", [0, 2], indirect=True)
def test_the_end_is_waited_for_until_all_is_acknowledged(
    tmp_path: Path, collector: Collector
) -> None:
    with shipping(tmp_path, environment(collector), drain_seconds=120):
        names = write(tmp_path, 50)

    assert collector.names == names


@pytest.mark.parametrize("collector", [1_000_000], indirect=True)
def test_the_wait_ends_where_no_collector_takes_anything(
    tmp_path: Path, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        shipping(tmp_path, environment(collector), drain_seconds=1),
    ):
        write(tmp_path, 5)
        assert collector.asked.wait(120)

    assert collector.names == []
    assert "What is left stays on its disk" in caplog.text


@pytest.mark.parametrize("collector", [1_000_000], indirect=True)
def test_a_shipper_says_that_something_is_left_when_its_time_is_over(
    tmp_path: Path, collector: Collector
) -> None:
    write(tmp_path, 5)
    told = environment(collector)

    started = shipper.start_shipper(
        tmp_path, told[ENV_COLLECTOR_URL], told[ENV_COLLECTOR_TOKEN], linger=0.5
    )
    started.communicate(timeout=120)

    assert started.returncode == shipper.LEFT


@pytest.mark.parametrize("collector", [0], indirect=True)
def test_a_shipper_that_could_not_be_started_is_started_later(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, failures = shipper.start_shipper, iter([True, True])

    def out_of_processes_at_first(*given: Any) -> Any:
        if next(failures, False):
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return start(*given)

    monkeypatch.setattr(shipper, "start_shipper", out_of_processes_at_first)
    with shipping(tmp_path, environment(collector), drain_seconds=120):
        names = write(tmp_path, 5)
        assert collector.asked.wait(120)

    assert collector.names == names
