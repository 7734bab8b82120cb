"""Training straight from a Delta snapshot: parts, unusable rows, and the same model again."""

import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heliotrope.adapters.delta_store import DeltaSnapshotStore
from heliotrope.adapters.onnx_model import OnnxScorer
from heliotrope.adapters.sklearn_model import SavedPipeline, SklearnTrainer
from heliotrope.adapters.source_reader import DuckDBSourceReader
from heliotrope.adapters.training_data import SnapshotTrainingData
from heliotrope.domain.serving import ServingContract
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.service.parity import check_parity
from heliotrope.service.snapshot import take_snapshot
from heliotrope.service.training import train
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.vocabulary import ONNX_FILE, SERVING_FILE, SKOPS_FILE

ROWS = 1200


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    income = rng.lognormal(10, 1, ROWS).round(2)
    grade = rng.choice(["A", "B", "C"], ROWS)
    chance = 1 / (1 + np.exp(10.5 - np.log(income) - (grade == "B") * 2))
    return pd.DataFrame(
        {
            "happened": pd.date_range("2024-01-01", periods=ROWS // 4, freq="h").repeat(4),
            "income": np.where(rng.random(ROWS) < 0.05, np.nan, income),
            "grade": grade,
            "owner": rng.random(ROWS) < 0.5,
            "late": np.where(rng.random(ROWS) < chance, "yes", "no"),
        }
    )


@pytest.fixture
def spec(frame: pd.DataFrame, tmp_path: Path) -> ModelSpec:
    path = tmp_path / "loans.parquet"
    frame.sample(frac=1, random_state=1).to_parquet(path)
    return parse_spec(f"""
name: loans
task: binary
event_time: happened
label: {{name: late, positive: "yes"}}
metrics: {{primary: roc_auc}}
source: {{path: {path}}}
features:
  - {{name: income, type: float, min: 0, nullable: true}}
  - {{name: grade, type: category, categories: [A, B, C]}}
  - {{name: owner, type: boolean}}
trainer: {{parameters: {{max_iter: 20}}}}
""")


@pytest.fixture
def store(tmp_path: Path) -> DeltaSnapshotStore:
    return DeltaSnapshotStore(str(tmp_path / "store"))


@pytest.fixture
def ref(spec: ModelSpec, store: DeltaSnapshotStore) -> SnapshotRef:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    return take_snapshot(spec, DuckDBSourceReader(), store, now)


def test_a_snapshot_trains_a_model_that_serves_its_raw_rows_alike_and_again(
    frame: pd.DataFrame,
    spec: ModelSpec,
    store: DeltaSnapshotStore,
    ref: SnapshotRef,
    tmp_path: Path,
) -> None:
    data = SnapshotTrainingData(store, ref, spec)
    first, second = tmp_path / "first", tmp_path / "second"
    record = train(spec, data, SklearnTrainer(), first, time.monotonic)
    assert train(spec, data, SklearnTrainer(), second, time.monotonic).curve == record.curve
    for name in (SKOPS_FILE, ONNX_FILE, SERVING_FILE):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert (record.train.event_to, record.holdout.event_to) == (
        frame.happened[record.train.row_to - 1].replace(tzinfo=UTC).to_pydatetime(),
        frame.happened.max().replace(tzinfo=UTC).to_pydatetime(),
    )
    rows = frame.drop(columns=["happened", "late"]).to_dict("records")
    contract = ServingContract.from_json((first / SERVING_FILE).read_bytes())
    trained = SavedPipeline(first, spec).score_raw
    report = check_parity(contract, rows, trained, OnnxScorer(first / ONNX_FILE)).require()
    assert report.rows == ROWS
    assert next(iter(record.importances)) in ("income", "grade")


def test_parts_hold_what_the_source_held_at_that_time(
    frame: pd.DataFrame, spec: ModelSpec, store: DeltaSnapshotStore, ref: SnapshotRef
) -> None:
    data = SnapshotTrainingData(store, ref, spec)
    times = data.event_time()
    assert times is not None
    assert np.array_equal(times, frame.happened.to_numpy().astype("datetime64[us]"))
    part = range(100, 300)
    late = (frame.late[100:300] == "yes").sum()
    assert data.class_counts(part) == {"not yes": 200 - late, "yes": late}
    loaded = data.load(part)
    assert loaded.labels.sum() == late
    assert loaded.features.dtype == np.float32


def test_rows_that_break_a_rule_are_neither_counted_nor_loaded(
    frame: pd.DataFrame, spec: ModelSpec, store: DeltaSnapshotStore, tmp_path: Path
) -> None:
    frame.loc[:49, "income"] = -5.0
    frame.to_parquet(spec.source.path)
    ref = take_snapshot(spec, DuckDBSourceReader(), store, datetime(2025, 1, 1, tzinfo=UTC))
    data = SnapshotTrainingData(store, ref, spec)
    assert data.rows == ROWS
    assert sum(data.class_counts(range(100)).values()) == 50
    assert len(data.load(range(100)).labels) == 50
