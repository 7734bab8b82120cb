"""Replaying over HTTP and scraping counts, against servers that behave in every way."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from heliotrope.adapters.http_replay import HttpReplayer
from heliotrope.adapters.scrape_watch import Instance, ScrapeWatch, read_counts
from heliotrope.domain.serving_plan import ObservedRevision, ObservedServing
from heliotrope.errors import UnavailableError
from heliotrope.ports.replay import LoggedRequest, ReplayOutcome
from heliotrope.telemetry.predictor_metrics import LATENCY_BUCKETS
from heliotrope.vocabulary import Role

T0 = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Predictor:
    """A server that answers as it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.status, self.body = 200, b""
        self.hang = threading.Event()
        self.hang.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["content-length"])
                document = json.loads(self.rfile.read(size))
                outer.asked.append((self.path, self.headers["x-request-id"], document))
                outer.hang.wait(5)
                rows = len(document["instances"])
                body = (
                    outer.body
                    or json.dumps({"predictions": ["1"] * rows, "scores": [0.5] * rows}).encode()
                )
                self.send_response(outer.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.hang.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def predictor() -> Iterator[Predictor]:
    made = Predictor()
    yield made
    made.close()


def logged(count: int, rows: int = 2) -> list[LoggedRequest]:
    return [
        LoggedRequest(f"r{n}", tuple({"x": float(row), "zip": None} for row in range(rows)))
        for n in range(count)
    ]


@pytest.fixture
def replayer() -> Iterator[HttpReplayer]:
    made = HttpReplayer(concurrency=3, rate=10_000, timeout=0.5)
    yield made
    made.close()


def test_a_request_goes_out_whole_under_its_own_id(
    predictor: Predictor, replayer: HttpReplayer
) -> None:
    found = replayer.ask(predictor.address, "loans", logged(20), 10.0)
    assert {one.request_id for one in found} == {f"r{n}" for n in range(20)}
    assert {one.outcome for one in found} == {ReplayOutcome.ANSWERED}
    path, _, document = predictor.asked[0]
    assert path == "/v1/models/loans:predict"
    assert document == {"instances": [{"x": 0.0, "zip": None}, {"x": 1.0, "zip": None}]}
    assert sorted(name for _, name, _ in predictor.asked) == sorted(f"r{n}" for n in range(20))


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (500, b"{}", ReplayOutcome.FAILED),
        (503, b"", ReplayOutcome.FAILED),
        (400, b'{"error": "instances[0].x must be left out"}', ReplayOutcome.REFUSED),
        (404, b"", ReplayOutcome.REFUSED),
        (422, b'{"error": "Row 0 has no finite score"}', ReplayOutcome.UNUSABLE),
        (200, b"<html>", ReplayOutcome.UNUSABLE),
        (200, b'{"predictions": [NaN, 0.5]}', ReplayOutcome.UNUSABLE),
        (200, b'{"predictions": ["1", "1"], "scores": [null, 0.5]}', ReplayOutcome.UNUSABLE),
        (200, b'{"predictions": ["1"]}', ReplayOutcome.UNUSABLE),
        (200, b'{"predictions": [0.1, 7]}', ReplayOutcome.ANSWERED),
        (200, b'{"predictions": ["a", "b"]}', ReplayOutcome.ANSWERED),
        (200, b'{"predictions": ["a", "b"], "scores": [[0, 1], [1, 0]]}', ReplayOutcome.ANSWERED),
    ],
)
def test_what_a_version_does_is_told_apart(
    predictor: Predictor, replayer: HttpReplayer, status: int, body: bytes, outcome: ReplayOutcome
) -> None:
    predictor.status, predictor.body = status, body or b" "
    (found,) = replayer.ask(predictor.address, "loans", logged(1), 10.0)
    assert found.outcome is outcome, found.note
    assert (found.note == "") == (outcome is ReplayOutcome.ANSWERED)


def test_a_version_that_hangs_fails_and_holds_nobody_up_for_long(
    predictor: Predictor, replayer: HttpReplayer
) -> None:
    predictor.hang.clear()
    found = replayer.ask(predictor.address, "loans", logged(50), 0.1)
    # Those that were begun are waited for; the others are left for the next tick.
    assert 1 <= len(found) <= 3
    assert {one.outcome for one in found} == {ReplayOutcome.FAILED}
    assert "Timeout" in found[0].note


def test_nobody_there_is_a_failure_with_its_reason(replayer: HttpReplayer) -> None:
    gone = Predictor()
    gone.close()
    (found,) = replayer.ask(gone.address, "loans", logged(1), 5.0)
    assert (found.outcome, bool(found.note)) == (ReplayOutcome.FAILED, True)


# Counts


def exposition(good: int, bad: int = 0, seconds: float = 0.004, version: str = "2") -> str:
    labels = f'model="loans",version="{version}",role="canary",protocol="v1"'
    lines = [
        "# TYPE ml_prediction_requests_total counter",
        f'ml_prediction_requests_total{{{labels},code="200"}} {good}',
        f'ml_prediction_requests_total{{{labels},code="500"}} {bad}',
        f'ml_prediction_requests_total{{{labels},code="400"}} 3',
        "# TYPE ml_prediction_latency_seconds histogram",
    ]
    for edge in (*LATENCY_BUCKETS, "+Inf"):
        upto = good if edge == "+Inf" or float(edge) >= seconds else 0
        lines.append(f'ml_prediction_latency_seconds_bucket{{{labels},le="{edge}"}} {upto}')
    lines += [
        f"ml_prediction_latency_seconds_count{{{labels}}} {good}",
        f"ml_prediction_latency_seconds_sum{{{labels}}} 1",
    ]
    return "\n".join(lines) + "\n"


class Place:
    """Serving that only says where versions run."""

    def __init__(self, *versions: str) -> None:
        self.versions = versions
        self.away = False

    def observe(self, model: str) -> ObservedServing:
        if self.away:
            raise UnavailableError("the platform must be up")
        revisions = tuple(
            ObservedRevision(version=v, role=Role.CANARY, ready=True, address=f"http://{v}")
            for v in self.versions
        )
        return ObservedServing(
            model=model, revisions=revisions, weights={}, settled=True, gateway=None
        )


@pytest.fixture
def watch() -> Callable[..., tuple[ScrapeWatch, dict[str, str | None], Place]]:
    def make(*versions: str) -> tuple[ScrapeWatch, dict[str, str | None], Place]:
        pages: dict[str, str | None] = {}
        place = Place(*versions)

        def fetch(url: str) -> str:
            page = pages.get(url.split("/")[2])
            if page is None:
                raise OSError(f"{url} refused")
            return page

        return ScrapeWatch(place, fetch), pages, place  # type: ignore[arg-type]

    return make


def test_counts_of_a_time_are_those_between_its_samples(watch: Any) -> None:
    watching, pages, _ = watch("2")
    for minute, (good, bad) in enumerate([(100, 5), (150, 5), (250, 25), (250, 25)]):
        pages["2"] = exposition(good, bad)
        watching.sample("loans", T0 + minute * MINUTE)
    (found,) = watching.traffic("loans", T0 + MINUTE, T0 + 2 * MINUTE)
    assert (found.requests, found.errors) == (123 - 3, 20)
    assert sum(count for _, count in found.latency) == 100
    assert found.p99_seconds == 0.005
    assert [low for low, count in found.latency if count] == [0.003]
    # What was counted before anybody watched is not of this time.
    (found,) = watching.traffic("loans", T0 - MINUTE, T0 + 9 * MINUTE)
    assert (found.requests, found.errors) == (170, 20)


def test_a_restarted_process_goes_on_counting(watch: Any) -> None:
    watching, pages, _ = watch("2")
    for minute, good in enumerate([100, 180, 7, 27]):
        pages["2"] = exposition(good)
        watching.sample("loans", T0 + minute * MINUTE)
    (found,) = watching.traffic("loans", T0, T0 + 9 * MINUTE)
    # 80, then the new process: its 27, and the three refused that it counted.
    assert found.requests == 80 + 27 + 3


def test_a_version_that_appears_under_watch_is_counted_from_its_start(watch: Any) -> None:
    watching, pages, place = watch("1")
    pages["1"] = exposition(50, version="1")
    watching.sample("loans", T0)
    place.versions = ("1", "2")
    pages["2"] = exposition(9)
    watching.sample("loans", T0 + MINUTE)
    found = {t.version: t.requests for t in watching.traffic("loans", T0, T0 + MINUTE)}
    assert found == {"1": 0, "2": 12}


def test_one_that_does_not_answer_is_missed_and_all_that_do_not_are_an_error(watch: Any) -> None:
    watching, pages, place = watch("1", "2")
    watching.sample("loans", T0)
    with pytest.raises(UnavailableError, match="refused"):
        watching.traffic("loans", T0, T0)
    pages["1"] = exposition(5, version="1")
    watching.sample("loans", T0 + MINUTE)
    assert [t.version for t in watching.traffic("loans", T0, T0 + MINUTE)] == ["1"]
    place.away = True
    with pytest.raises(UnavailableError):
        watching.sample("loans", T0 + MINUTE)


def test_the_pods_of_a_version_are_counted_one_by_one_as_they_come_and_go() -> None:
    pages: dict[str, str] = {"a": exposition(100), "b": exposition(40)}
    there = ["a", "b"]

    def instances(model: str) -> list[Instance]:
        return [Instance("2", name, f"http://{name}") for name in there]

    watching = ScrapeWatch(
        Place(),
        lambda url: pages[url.split("/")[2]],
        instances,  # type: ignore[arg-type]
    )

    def counted(minute: int) -> int:
        watching.sample("loans", T0 + minute * MINUTE)
        (found,) = watching.traffic("loans", T0, T0 + minute * MINUTE)
        return found.requests

    watching.sample("loans", T0)
    pages |= {"a": exposition(110), "b": exposition(45)}
    assert counted(1) == 15
    # A third is scaled up; what it counts of itself (with its three refused) is new.
    there.append("c")
    pages["c"] = exposition(7)
    assert counted(2) == 15 + 7 + 3
    # The first goes with its counts, and they stay counted.
    there.remove("a")
    pages["b"] = exposition(50)
    assert counted(3) == 15 + 10 + 5
    # The second's container starts again.
    pages["b"] = exposition(2)
    assert counted(4) == 15 + 10 + 5 + 2 + 3


def test_a_missing_score_counts_as_an_error_and_other_versions_do_not_count() -> None:
    text = exposition(5).replace('code="400"', 'code="422"')
    counts = read_counts(text + exposition(70, version="9"), "2")
    assert (counts.requests, counts.errors) == (8, 3)
