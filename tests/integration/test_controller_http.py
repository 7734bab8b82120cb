"""The controller over HTTP: who may write, what rubbish is answered with, what alerts leave."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from heliotrope.adapters.controller_app import ALERT_BYTES, ControllerApp
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.adapters.web_files import WebFiles
from heliotrope.clock import SystemClock
from heliotrope.domain.alarms import Alarm
from heliotrope.domain.decisions import DecisionKind, first_broken
from heliotrope.errors import NotFoundError
from heliotrope.ports.state import StateKind
from heliotrope.service.alerts import AlertIntake
from heliotrope.service.controller import Controller
from heliotrope.service.tokens import TokenRing
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board

TOKEN = "token-for-everything"
AUTH = {"authorization": f"Bearer {TOKEN}"}
RING = TokenRing.parse([TOKEN, "token-for-orders-only orders"], "test")
NOW = datetime(2026, 3, 2, tzinfo=UTC)
Scenario = Callable[[httpx.AsyncClient], Awaitable[None]]


class Mine:
    """A lock that nobody else wants."""

    def take(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing to give back."""


def view(model: str) -> bytes:
    if model != "loans":
        raise NotFoundError("The model must be loans.")
    return b'{"a": 1}'


class Desk:
    """An application on a database of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = SqlStateStore(f"sqlite:///{folder}/state.db")
        board = Board(metrics.CONTROLLER_METRICS)
        self.loop = Controller([], SystemClock(), board, Mine(), active=True)
        self.woken = Event()
        self.pages = folder / "web"
        self.pages.mkdir()
        (self.pages / "index.html").write_text("<!doctype html>")
        (self.pages / "notes.txt").write_text("not for the web")
        (folder / "secret.html").write_text("secret")

    def play(self, scenario: Scenario) -> None:
        app = ControllerApp(
            self.loop, ("loans",), self.state, view, lambda: NOW,
            AlertIntake(self.state, SystemClock(), self.woken.set), RING, WebFiles(self.pages),
        )  # fmt: skip

        async def run() -> None:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://controller", headers=AUTH
            ) as client:
                await scenario(client)

        asyncio.run(run())

    def alarms(self) -> list[Alarm]:
        return [Alarm.from_json(kept.text) for kept in self.state.kept(StateKind.ALARM)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def alert(number: int = 0, status: str = "firing", minute: int = 0, **more: Any) -> dict[str, Any]:
    began = NOW + timedelta(minutes=minute)
    return {
        "status": status, "labels": {"alertname": f"A{number}", "model": "loans"},
        "startsAt": began.isoformat(), "endsAt": began.isoformat(), "fingerprint": f"f{number}",
        **more,
    }  # fmt: skip


def call(*alerts: dict[str, Any]) -> dict[str, Any]:
    return {"version": "4", "alerts": list(alerts)}


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer token-for-everythinx"}, 401),
        ({"authorization": TOKEN}, 401),
        ({"authorization": "Bearer token-for-orders-only"}, 403),
        (AUTH, 200),
    ],
)
def test_alerts_need_a_token_with_their_scope(
    desk: Desk, shown: dict[str, str], status: int
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        client.headers.pop("authorization")
        answer = await client.post("/v1/alerts", json=call(alert()), headers=shown)
        assert answer.status_code == status
        assert TOKEN not in answer.text

    desk.play(scenario)
    assert len(desk.alarms()) == (1 if status == 200 else 0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff", 400),
        (b"null", 400),
        (b'{"version": "4", "alerts": [{"status": "burning"}]}', 400),
        (b"[" * 100_000, 400),
        (b" " * (ALERT_BYTES + 1), 413),
    ],
    ids=["empty", "no text", "null", "no alert", "deep", "large"],
)
def test_rubbish_is_refused_and_leaves_nothing(desk: Desk, body: bytes, status: int) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/alerts", content=body)
        assert answer.status_code == status
        assert "must" in answer.json()["error"]

    desk.play(scenario)
    assert desk.alarms() == []


def test_one_wrong_alert_of_a_call_takes_none(desk: Desk) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/alerts", json=call(alert(), {"status": "firing"}))
        assert answer.status_code == 400

    desk.play(scenario)
    assert desk.alarms() == []


def test_a_thousand_alerts_flapping_and_told_twice_are_one_document_each(desk: Desk) -> None:
    models = 50
    told = [
        alert(number, status, minute)
        for minute in range(5)
        for status in ("firing", "firing", "resolved", "resolved")
        for number in range(models)
    ]

    async def scenario(client: httpx.AsyncClient) -> None:
        for start in range(0, len(told), 250):
            answer = await client.post("/v1/alerts", json=call(*told[start : start + 250]))
            assert answer.json()["alerts"] == 250
        again = await client.post("/v1/alerts", json=call(*told[-models:]))
        assert again.json() == {"alerts": models, "turned": 0}

    desk.play(scenario)
    assert len(told) == 1000
    alarms = desk.alarms()
    assert {(one.name, one.firing, one.firings) for one in alarms} == {
        (f"A{number}", False, 5) for number in range(models)
    }
    log = desk.state.decisions("loans")
    assert len(log) == len({one.key for one in log}) == models * 5 * 2
    assert {one.kind for one in log} == {DecisionKind.ALARM}
    assert first_broken(log) is None
    assert desk.woken.is_set()


def test_calls_at_the_same_time_lose_nothing(desk: Desk) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        calls = [client.post("/v1/alerts", json=call(alert(n % 4, minute=n))) for n in range(20)]
        answers = await asyncio.gather(*calls)
        assert {answer.status_code for answer in answers} == {200}

    desk.play(scenario)
    assert sorted(one.name for one in desk.alarms()) == ["A0", "A1", "A2", "A3"]


def test_one_that_stands_by_takes_no_alerts(desk: Desk) -> None:
    desk.loop.active = False

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/alerts", json=call(alert()))
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)

    desk.play(scenario)
    assert desk.alarms() == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/index.html", 200),
        ("GET", "/notes.txt", 404),
        ("GET", "/../secret.html", 404),
        ("GET", "/%2e%2e/secret.html", 404),
        ("GET", "/v1/alerts", 405),
        ("POST", "/", 405),
        ("DELETE", "/api/v1/models/loans", 405),
        ("GET", "/api/v1/models", 200),
        ("GET", "/api/v1/models/loans", 200),
        ("GET", "/api/v1/models/cars", 404),
        ("GET", "/api/v1/models/loans/decisions", 200),
        ("GET", "/api/v1/models/cars/decisions", 404),
        ("GET", "/api/v1/models/loans/decisions?limit=5", 200),
        ("GET", "/api/v1/models/loans/decisions?limit=0", 400),
        ("GET", "/api/v1/models/loans/decisions?limit=many", 400),
        ("GET", "/api/v1/models/loans/decisions?limit=" + "9" * 5000, 400),
        ("GET", "/api/v1/models/loans/decisions?offset=5", 400),
        ("GET", "/api/v1/models/loans/else/where", 404),
        ("GET", "/metrics", 200),
        ("GET", "/nowhere", 404),
    ],
)
def test_only_what_there_is_is_served(desk: Desk, method: str, path: str, status: int) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.request(method, path)).status_code == status

    desk.play(scenario)


def test_what_has_not_changed_is_not_sent_again(desk: Desk) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        for path in ("/", "/api/v1/models/loans", "/api/v1/models/loans/decisions"):
            first = await client.get(path)
            again = await client.get(path, headers={"if-none-match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        view = await client.get("/api/v1/models/loans")
        assert view.headers["x-heliotrope-now"] == NOW.isoformat()

    desk.play(scenario)


def test_the_page_may_load_nothing_from_elsewhere(desk: Desk) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        policy = (await client.get("/")).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy

    desk.play(scenario)
