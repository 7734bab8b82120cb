"""What a feed must do, and a tick on it, with tables in a folder and on an S3 server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from heliotrope.adapters import object_store
from heliotrope.adapters.delta_feed import DeltaFeed
from heliotrope.adapters.truth_engine import duckdb_truth
from heliotrope.adapters.truth_state import TruthState
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.errors import UnavailableError
from heliotrope.service.truth import Truth
from heliotrope.spec import parse_spec

DAY0 = datetime(2026, 3, 2, tzinfo=UTC)
STAMP = pa.timestamp("us", "UTC")
PLAN = TruthPlan.of(parse_spec("""
name: m
task: binary
label: {name: y, positive: true}
source: {path: nowhere.parquet}
features: [{name: x, type: float}]
metrics: {primary: accuracy}
"""))  # fmt: skip


def write(root: str, table: str, first: int, rows: int) -> None:
    number = range(first, first + rows)
    at = [DAY0 + timedelta(hours=13 * n) for n in number]
    events = {
        "predictions": {
            "prediction_id": [f"p{n}" for n in number],
            "version": ["1"] * rows,
            "role": ["champion"] * rows,
            "predicted_at": pa.array(at, STAMP),
            "prediction": ["true"] * rows,
            "score": [0.75] * rows,
        },
        "labels": {
            "label_id": [f"l{n}" for n in number],
            "prediction_id": [f"p{n}" for n in number],
            "label": ["true"] * rows,
            "received_at": pa.array(at, STAMP),
        },
    }[table]
    day = pa.array([moment.date() for moment in at])
    path = f"{root}/{table}/m"
    options = object_store.storage_options(path)
    extra = {} if options is None else {"AWS_S3_ALLOW_UNSAFE_RENAME": "true", **options}
    write_deltalake(
        path, pa.table({**events, "day": day}), mode="append", partition_by=["day"],
        storage_options=extra or None,
    )  # fmt: skip


def compact(root: str, table: str) -> None:
    path = f"{root}/{table}/m"
    DeltaTable(path, storage_options=object_store.storage_options(path)).optimize.compact()


def test_no_table_has_no_steps(root: str) -> None:
    feed = DeltaFeed(root, "m")
    assert list(feed.steps("predictions", None)) == []
    assert feed.files("predictions") == ()


def test_steps_go_on_after_a_version_and_hold_no_compacted_file(root: str) -> None:
    feed = DeltaFeed(root, "m")
    write(root, "predictions", 0, 4)
    write(root, "predictions", 1, 3)
    compact(root, "predictions")
    write(root, "predictions", 6, 1)
    steps = list(feed.steps("predictions", 0))
    assert [(step.version, step.rows, len(step.files)) for step in steps] == [
        (1, 3, 2), (2, 0, 0), (3, 1, 1),
    ]  # fmt: skip
    assert list(feed.steps("predictions", 3)) == []


def test_a_tick_reads_what_is_there_and_then_what_is_new(root: str, tmp_path: Path) -> None:
    with duckdb_truth() as engine:
        truth = Truth(PLAN, DeltaFeed(root, "m"), engine, TruthState(tmp_path / "truth.db"))
        write(root, "predictions", 0, 4)
        assert truth.tick().predictions == 4
        write(root, "labels", 2, 3)
        write(root, "predictions", 4, 2)
        compact(root, "predictions")
        report = truth.tick()
        assert (report.predictions, report.labels) == (2, 3)
        windows = truth.windows(DAY0 + timedelta(days=9))
        assert [(w.predicted, w.labelled) for w in windows] == [(2, 0), (2, 2), (2, 1)]
        assert truth.state.cells(PLAN) == truth.recomputed_cells()


def test_a_silent_object_store_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(UnavailableError, match="must be reachable"):
        list(DeltaFeed("s3://bucket/store", "m").steps("predictions", None))
