"""The collector over HTTP: who may write, what is answered, what is in the store afterwards."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from deltalake import DeltaTable
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from heliotrope.adapters.collector_app import CollectorApp
from heliotrope.adapters.collector_client import CollectorClient
from heliotrope.adapters.event_store import DeltaEventStore
from heliotrope.cli import build_app
from heliotrope.domain.labels import LabelContract
from heliotrope.domain.spool_format import Record, SegmentHeader, encode_header, encode_record
from heliotrope.errors import UnavailableError
from heliotrope.service.collector_lanes import CollectorLimits
from heliotrope.service.tokens import TokenRing
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.telemetry.board import Board
from heliotrope.telemetry.collector_metrics import COLLECTOR_METRICS
from heliotrope.vocabulary import Role, Task

TOKEN = "token-for-everything"
RING = TokenRing.parse([TOKEN, "token-for-spools-only spools"], "test")
LOANS = LabelContract("loans", Task.BINARY, ("not late", "late"))
Scenario = Callable[[httpx.AsyncClient], Awaitable[None]]
AUTH = {"authorization": f"Bearer {TOKEN}"}


def batch(first: int = 1, count: int = 1, model: str = "loans") -> bytes:
    header = SegmentHeader(
        spool="00000000-0000-0000-0000-000000000009",
        first_sequence=first,
        model=model,
        version="1",
        role=Role.CHAMPION,
        task=Task.BINARY,
        features=(Feature(name="x", type=FeatureType.FLOAT),),
        classes=("not late", "late"),
    )
    records = [
        Record(n, 10**18, 1000, f"r{n}", "v1", np.ones((1, 1), np.float32),
               np.ones(1, np.float32), np.zeros(1, np.uint16))
        for n in range(first, first + count)
    ]  # fmt: skip
    return encode_header(header) + b"".join(map(encode_record, records))


def play(folder: Path, scenario: Scenario, limits: CollectorLimits | None = None) -> None:
    app = CollectorApp(
        DeltaEventStore(str(folder)),
        [LOANS],
        RING,
        limits or CollectorLimits(commit_seconds=0.01),
        Board(COLLECTOR_METRICS),
    )

    async def run() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://collector", headers=AUTH
        ) as client:
            await scenario(client)

    asyncio.run(run())


def stored(folder: Path, kind: str = "labels", model: str = "loans") -> list[dict[str, Any]]:
    return list(DeltaTable(str(folder / kind / model)).to_pyarrow_table().to_pylist())


@pytest.mark.parametrize("path", ["/v1/spools", "/v1/labels"])
@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer token-for-everythinx"}, 401),
        ({"authorization": TOKEN}, 401),
        ({"authorization": "Bearer token-for-spools-only"}, 403),
    ],
)
def test_writes_need_a_token_with_their_scope(
    tmp_path: Path, path: str, shown: dict[str, str], status: int
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        client.headers.pop("authorization")
        answer = await client.post(path, content=b"{}", headers=shown)
        # The 403 token may send spools, and is then told what is wrong with them.
        assert answer.status_code == (400 if status == 403 and path == "/v1/spools" else status)
        assert TOKEN not in answer.text

    play(tmp_path, scenario)
    assert not (tmp_path / "labels").exists()


def test_what_is_answered_with_200_is_in_the_store(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post(
            "/v1/spools", content=batch(1, 3), headers={"x-spool-follows": "0"}
        )
        assert answer.json() == {"watermark": 3, "rows": 3, "duplicate": False}
        assert len(stored(tmp_path, "predictions")) == 3
        again = await client.post(
            "/v1/spools", content=batch(1, 3), headers={"x-spool-follows": "0"}
        )
        assert again.json() == {"watermark": 3, "rows": 0, "duplicate": True}
        ahead = await client.post("/v1/spools", content=batch(9), headers={"x-spool-follows": "8"})
        assert (ahead.status_code, ahead.json()["watermark"]) == (409, 3)
        label = {"prediction_id": "r1/0", "label": "late", "happened_at": "2026-01-01T00:00:00Z"}
        answer = await client.post("/v1/labels?model=loans", json=label)
        assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
        assert [row["label"] for row in stored(tmp_path)] == ["late"]

    play(tmp_path, scenario)
    assert len(stored(tmp_path, "predictions")) == 3


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'[{"prediction_id":"a/0","label":"late"},{"label":"late"}]'),
        ("application/x-ndjson", b'{"prediction_id":"a/0","label":"late"}\n{"label":"late"}'),
        ("text/csv; charset=utf-8", b"prediction_id,label\na/0,late\n,late\n"),
    ],
)
def test_part_of_an_upload_is_taken_and_the_rest_named(
    tmp_path: Path, kind: str, body: bytes
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post(
            "/v1/labels?model=loans", content=body, headers={"content-type": kind}
        )
        assert answer.status_code == 200
        said = answer.json()
        assert (said["accepted"], said["refused"], said["refusals"][0]["row"]) == (1, 1, 1)
        assert "prediction_id and entity_key" in said["refusals"][0]["reason"]

    play(tmp_path, scenario)
    assert [row["prediction_id"] for row in stored(tmp_path)] == ["a/0"]


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "says"),
    [
        ("/v1/labels?model=loans", {}, b"{", 400, "must be JSON"),
        ("/v1/labels?model=loans", {"content-type": "text/html"}, b"x", 415, "text/csv"),
        ("/v1/labels?model=loans&x=1", {}, b"{}", 400, "the query must be"),
        ("/v1/labels?model=nobody", {}, b"{}", 404, "loans"),
        ("/v1/labels?model=../loans", {}, b"{}", 404, "a known one"),
        ("/v1/labels?model=loans", {}, b'{"label":"late"}', 422, "Got neither"),
        ("/v1/spools", {}, b"", 400, "x-spool-follows"),
        ("/v1/spools", {"x-spool-follows": "-1"}, b"", 400, "a sequence number"),
        ("/v1/spools", {"x-spool-follows": "0", "x-spool-gap": "why"}, b"", 400, "budget"),
        ("/v1/spools", {"x-spool-follows": "0"}, b"garbage", 400, "a frame must be"),
        ("/v1/spools", {"x-spool-follows": "0"}, batch(model="../x"), 400, "a model's name"),
        ("/v1/elsewhere", {}, b"", 404, "/v1/labels"),
    ],
)
def test_bad_requests_are_told_what_they_must_be(
    tmp_path: Path, path: str, headers: dict[str, str], body: bytes, status: int, says: str
) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post(path, content=body, headers=headers)
        assert answer.status_code == status
        assert says in answer.text

    play(tmp_path, scenario)


def test_a_model_is_learned_from_its_predictor(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        body = {"prediction_id": "r1/0", "label": "late"}
        assert (await client.post("/v1/labels?model=fresh", json=body)).status_code == 404
        await client.post(
            "/v1/spools", content=batch(model="fresh"), headers={"x-spool-follows": "0"}
        )
        assert (await client.post("/v1/labels?model=fresh", json=body)).status_code == 200
        assert (await client.get("/v1/models")).json() == {"models": ["fresh", "loans"]}

    async def elsewhere(client: httpx.AsyncClient) -> None:
        body = {"prediction_id": "r1/0", "label": "not late"}
        assert (await client.post("/v1/labels?model=fresh", json=body)).status_code == 200

    play(tmp_path, scenario)
    play(tmp_path, elsewhere)


def test_a_repeated_upload_is_recognised_by_its_key(tmp_path: Path) -> None:
    rows = [{"prediction_id": f"r{n}/0", "label": "late"} for n in range(150)]
    headers = {"idempotency-key": "nightly-2026-01-01"}

    async def scenario(client: httpx.AsyncClient) -> None:
        first = await client.post("/v1/labels?model=loans", json=rows, headers=headers)
        again = await client.post("/v1/labels?model=loans", json=rows, headers=headers)
        assert (first.json()["duplicate"], again.json()["duplicate"]) == (False, True)
        assert first.json()["batch_id"] == again.json()["batch_id"]
        other = await client.post("/v1/labels?model=loans", json=rows[:120], headers=headers)
        assert not other.json()["duplicate"]

    play(tmp_path, scenario)
    assert len(stored(tmp_path)) == 270


@pytest.mark.parametrize("declared", [True, False])
def test_bodies_over_the_limit_are_refused_before_they_are_held(
    tmp_path: Path, declared: bool
) -> None:
    async def pieces() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    async def scenario(client: httpx.AsyncClient) -> None:
        content: Any = b"x" * 100_000 if declared else pieces()
        answer = await client.post("/v1/labels?model=loans", content=content)
        assert (answer.status_code, answer.json()["limit_bytes"]) == (413, 50_000)

    play(tmp_path, scenario, CollectorLimits(label_bytes=50_000))


def test_when_too_much_waits_requests_are_put_off_and_nothing_is_lost(tmp_path: Path) -> None:
    limits = CollectorLimits(commit_seconds=0.01, waiting_bytes=3000)
    rows = [{"prediction_id": f"r{n}/0", "label": "late"} for n in range(30)]

    async def scenario(client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(
            *(client.post("/v1/labels?model=loans", json=rows) for _ in range(20))
        )
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        assert all(a.headers["retry-after"] == "1" for a in answers if a.status_code == 429)
        assert (await client.post("/v1/labels?model=loans", json=rows)).status_code == 200
        assert len(stored(tmp_path)) == 30 * (statuses.count(200) + 1)

    play(tmp_path, scenario, limits)


def test_a_store_that_takes_nothing_is_503_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.write_text("a file where the store should be")
    row = {"prediction_id": "r1/0", "label": "late"}

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/labels?model=loans", json=row)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        root.unlink()
        assert (await client.post("/v1/labels?model=loans", json=row)).status_code == 200
        assert (await client.get("/readyz")).status_code == 200

    play(root, scenario)
    assert len(stored(root)) == 1


def test_metrics_are_the_catalogues_and_count_what_happened(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        await client.post("/v1/spools", content=batch(4), headers={"x-spool-follows": "0"})
        rows = [{"prediction_id": "r1/0", "label": "late"}, {"prediction_id": "r1/0"}]
        await client.post("/v1/labels?model=loans", json=rows)
        text = (await client.get("/metrics")).text
        exposed = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
        assert exposed == {metric.name for metric in COLLECTOR_METRICS}
        assert 'ml_collector_rows_total{kind="predictions",model="loans"} 1.0' in text
        assert 'ml_collector_rows_total{kind="labels",model="loans"} 1.0' in text
        assert 'ml_collector_lost_records_total{model="loans",reason="budget"} 3.0' in text
        assert 'ml_collector_refused_labels_total{reason="label_missing"} 1.0' in text
        assert 'ml_collector_requests_total{code="200",route="labels"} 1.0' in text
        assert "ml_collector_waiting_bytes 0.0" in text

    play(tmp_path, scenario)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[str]:
    """A collector process; its address."""
    home = {"HELIOTROPE_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", "from heliotrope.cli import main; main()", "collector", "--port",
         "0"],
        env={**os.environ, **home},
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    found = re.search(r"(http://\S+),", process.stdout.readline())
    try:
        assert found is not None
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0


def test_a_person_starts_a_collector_sends_a_file_and_asks_for_the_status(
    tmp_path: Path, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_file = tmp_path / "collector.token"
    assert token_file.stat().st_mode & 0o777 == 0o600
    client = CollectorClient(running, token_file.read_text().strip())
    assert client.send_batch(batch(1, 4), 0, "budget").watermark == 4
    client.close()
    file = tmp_path / "labels.csv"
    rows = [f"r{n}/0,{'late' if n % 2 else 'on time'}" for n in range(1, 131)]
    file.write_text("prediction_id,label\n" + "\n".join(rows) + "\n")
    monkeypatch.setenv("HELIOTROPE_HOME", str(tmp_path))
    monkeypatch.delenv("HELIOTROPE_COLLECTOR_TOKEN", raising=False)
    send = ["labels", "send", str(file), "--model", "loans", "--collector", running]
    result = CliRunner().invoke(build_app(), send)
    assert result.exit_code == 0, result.output
    assert "130 labels taken; 0 refused." in result.output
    result = CliRunner().invoke(build_app(), send)
    assert "130 of them were there before" in result.output
    result = CliRunner().invoke(build_app(), ["labels", "status", "loans", "--json"])
    said = json.loads(result.output)[0]
    assert (said["predictions"], said["labelled"], said["unknown"]) == (4, 4, 126)


def test_a_process_exposes_its_part_of_the_catalogue(tmp_path: Path, running: str) -> None:
    client = CollectorClient(running, (tmp_path / "collector.token").read_text().strip())
    assert client.send_batch(batch(1, 4), 0, "budget").watermark == 4
    client.close()
    reply = httpx.get(f"{running}/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {family.name: family for family in text_string_to_metric_families(reply.text)}
    assert set(found) == {metric.name.removesuffix("_total") for metric in COLLECTOR_METRICS}
    for metric in COLLECTOR_METRICS:
        family = found[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.type, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)
    assert {sample.value for sample in found["ml_collector_rows"].samples} == {4.0}


def test_a_client_whose_collector_is_gone_says_so() -> None:
    client = CollectorClient("http://127.0.0.1:9", TOKEN, timeout=2)
    with pytest.raises(UnavailableError, match="must answer"):
        client.models()
