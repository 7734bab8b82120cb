"""Events on S3 and decisions on PostgreSQL, with many processes writing both at once."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from heliotrope.adapters.delta_tables import open_table
from heliotrope.adapters.event_store import DeltaEventStore
from heliotrope.adapters.mlflow_server import MlflowServer
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.bootstrap import CHECKOUT
from heliotrope.clock import SystemClock
from heliotrope.domain.decisions import DecisionEntry, DecisionKind, first_broken
from heliotrope.errors import UnavailableError
from heliotrope.ports.state import Put, StateKind
from heliotrope.service.controller import Controller
from heliotrope.telemetry.board import Board
from heliotrope.telemetry.controller_metrics import CONTROLLER_METRICS

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
WAIT = 240

_WRITERS = '''
"""One of many that write at once: `predictions N`, `labels N` or `decisions N`."""
import sys
from datetime import UTC, datetime

import numpy as np

from heliotrope.adapters.event_store import DeltaEventStore
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.domain.decisions import DecisionEntry, DecisionKind
from heliotrope.domain.labels import LabelRows, LabelUpload
from heliotrope.domain.spool_batch import Standing
from heliotrope.domain.spool_format import Record, SegmentHeader, encode_header, encode_record
from heliotrope.errors import UnavailableError
from heliotrope.service.collecting import Parcel, RisingClock, commit_labels, commit_spools
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import Role, Task

kind, root, database = sys.argv[1], *sys.argv[4:6]
number, rounds = int(sys.argv[2]), int(sys.argv[3])
noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
moments = RisingClock(lambda: int(noon.timestamp() * 1e6))


def parcel(spool, sequence):
    header = SegmentHeader(
        spool=f"00000000-0000-0000-0000-{spool:012d}", first_sequence=1, model="m", version="3",
        role=Role.CHAMPION, task=Task.BINARY, classes=("no", "yes"),
        features=(Feature(name="amount", type=FeatureType.FLOAT),),
    )
    record = Record(
        sequence=sequence, predicted_at_ns=int(noon.timestamp()) * 10**9, latency_ns=10**6,
        request_id=f"r{spool}-{sequence}", protocol="v2",
        features=np.array([[1.5], [2.5]], np.float32), scores=np.array([0.25, 0.75], np.float32),
        predictions=np.array([0, 1], np.uint16), entity_keys=["e1", None],
    )
    return Parcel(encode_header(header) + encode_record(record), sequence - 1, "budget")


def patiently(work):
    """As a predictor's shipper and a label sender do: what was not acknowledged comes again."""
    while True:
        try:
            return work()
        except UnavailableError as error:
            print(error, file=sys.stderr)


store = DeltaEventStore(root)
state = SqlStateStore(database, patience=60)
print("ready", flush=True)
sys.stdin.readline()
for n in range(1, rounds + 1):
    if kind == "predictions":
        # Two processes send each spool, as after a lost answer.
        while True:
            send = [parcel(number // 2, n)]
            answer = patiently(lambda: commit_spools(store, moments, "m", send))[0]
            if answer.standing is not Standing.AHEAD:
                break
    elif kind == "labels":
        ids = [f"r0-{n}/{row}" for row in (0, 1)]
        rows = LabelRows(ids, [None, None], ["yes", "no"], [None, None], [0, 1])
        # Every label process sends the same uploads.
        patiently(lambda: commit_labels(store, moments, "m", [LabelUpload(rows, f"u{n}", f"u{n}")]))
    else:
        def entry(key):
            return DecisionEntry(
                model="m", at=noon, kind=DecisionKind.VERDICT, actor="controller",
                subject=f"window {n}", reason=f"round {n}", key=key,
            )
        state.apply(noon, decisions=[entry(f"{number}/{n}"), entry(f"shared/{n}")])
'''


def test_processes_that_write_all_at_once_lose_and_double_nothing(
    bucket: str, empty_database: str, tmp_path: Path
) -> None:
    (tmp_path / "writer.py").write_text(_WRITERS)
    rounds, root = 6, f"{bucket}/deep/prefix"
    kinds = [("predictions", n) for n in range(4)] + [("labels", n) for n in range(2)]
    kinds += [("decisions", n) for n in range(3)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    writers = [
        subprocess.Popen(
            [sys.executable, "writer.py", kind, str(n), str(rounds), root, empty_database],
            cwd=tmp_path, env=env, stderr=subprocess.PIPE, **pipes,
        )
        for kind, n in kinds
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    # Nobody has made a table or a database yet: that is raced for, too.
    ended: dict[int, tuple[str, str]] = {}

    def let_go(place: int) -> None:
        ended[place] = writers[place].communicate("\n", timeout=WAIT)

    threads = [threading.Thread(target=let_go, args=(place,)) for place in range(len(writers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert [writer.returncode for writer in writers] == [0] * len(writers), ended

    store = DeltaEventStore(root)
    rows = {
        kind: open_table(store.table_uri(kind, "m")).to_pyarrow_table().to_pylist()
        for kind in ("predictions", "labels")
    }
    expected = [f"r{s}-{n}/{row}" for s in (0, 1) for n in range(1, rounds + 1) for row in (0, 1)]
    assert sorted(row["prediction_id"] for row in rows["predictions"]) == sorted(expected)
    labelled = Counter(row["prediction_id"] for row in rows["labels"])
    assert labelled == Counter(name for name in expected if name.startswith("r0-"))
    state = SqlStateStore(empty_database)
    log = state.decisions("m")
    head = state.head("m")
    state.close()
    assert first_broken(log) is None
    assert head == (log[-1].sequence, log[-1].hash)
    assert sorted(one.key or "" for one in log) == sorted(
        f"{writer}/{n}" for writer in (0, 1, 2, "shared") for n in range(1, rounds + 1)
    )


class CountingDuty:
    """Moves a counter in the state, and decides on each count."""

    name = "count m"

    def __init__(self, state: SqlStateStore) -> None:
        self._state = state

    def run(self, now: datetime) -> None:
        kept = self._state.get(StateKind.CURSOR, "m", "count")
        count, revision = (int(kept.text), kept.revision) if kept else (0, 0)
        said = DecisionEntry(
            model="m", at=now, kind=DecisionKind.VERDICT, actor="controller",
            subject="count", reason=f"{count} + 1", key=f"{count + 1}",
        )  # fmt: skip
        put = Put(StateKind.CURSOR, "m", "count", str(count + 1), revision)
        self._state.apply(now, [put], [said])


class Unlocked:
    """A lock that is always ours."""

    def take(self) -> bool:
        return True

    def release(self) -> None:
        pass


def test_a_controller_that_loses_its_database_goes_on_when_it_is_back(
    postgresql: Any, empty_database: str
) -> None:
    state = SqlStateStore(empty_database, patience=0.5)
    controller = Controller(
        [CountingDuty(state)], SystemClock(), Board(CONTROLLER_METRICS), Unlocked(), 0.02
    )
    thread = threading.Thread(target=controller.run)
    thread.start()
    try:
        until(lambda: _count(empty_database) >= 2)
        postgresql.stop()
        try:
            until(lambda: bool(controller.matters))
            assert (
                "count m: The state's database postgresql+psycopg://ada:***@"
                in (controller.matters[0])
            )
            assert postgresql.password not in controller.matters[0]
            with pytest.raises(UnavailableError):
                state.decisions("m")
        finally:
            postgresql.start()
        until(lambda: not controller.matters)
        reached = _count(empty_database)
        until(lambda: _count(empty_database) >= reached + 2)
    finally:
        controller.stop()
        thread.join(WAIT)
    log = state.decisions("m")
    assert first_broken(log) is None
    # One decision a count: what was answered is there once, whatever was lost in between.
    assert [one.key for one in log] == [str(n) for n in range(1, _count(empty_database) + 1)]
    state.close()


def _count(database: str) -> int:
    state = SqlStateStore(database, patience=30)
    kept = state.get(StateKind.CURSOR, "m", "count")
    state.close()
    return int(kept.text) if kept else 0


def until(holds: Callable[[], bool]) -> None:
    """Await a condition; the bound is only for a test that would fail."""
    pause = threading.Event()
    for _ in range(WAIT * 10):
        if holds():
            return
        pause.wait(0.1)
    raise AssertionError("it never came to be")


def test_training_works_on_postgresql_and_s3(
    workshop: Any,
    postgresql: Any,
    s3_server: str,
    bucket: str,
    empty_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Snapshots and models on S3; the log, and MLflow behind its server, on PostgreSQL."""
    backend = postgresql.database(f"{empty_database.rpartition('/')[2]}-mlflow")
    monkeypatch.setenv("HELIOTROPE_STORE", f"{bucket}/store")
    monkeypatch.setenv("HELIOTROPE_STATE", empty_database)
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", backend)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3_server)
    migrated = workshop.cli("state", "migrate")
    assert migrated.code == 0, migrated.err
    assert migrated.out.count("from empty to") == 2
    monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI")
    driver = backend.replace("postgresql:", "postgresql+psycopg:")
    files = ("--no-serve-artifacts", "--default-artifact-root", f"{bucket}/models")
    with MlflowServer(driver, options=files) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        workshop.write(workshop.loans())
        outcome = workshop.train()
        assert outcome.outcome == "registered", outcome
        registry = workshop.here.registry
        version = registry.version("toy", outcome.version)
        # What KServe's storage initializer is given.
        assert registry.artifact_uri(version).startswith(f"{bucket}/models/")
        folder = registry.download(version, workshop.folder / "downloaded")
        assert (folder / "model.onnx").stat().st_size > 0
    assert open_table(f"{bucket}/store/snapshots/toy").version() == 0
    state = workshop.here.state
    said = DecisionEntry(
        model="toy", at=NOON, kind=DecisionKind.VERDICT, actor="a person",
        subject="here", reason="it is so",
    )  # fmt: skip
    state.apply(NOON, decisions=[said])
    shown = json.loads(workshop.cli("log", "toy", "--json").out)
    assert [one["reason"] for one in shown] == ["it is so"]
    assert "every one as it was written" in workshop.cli("log", "toy", "--verify").out
    state.close()
