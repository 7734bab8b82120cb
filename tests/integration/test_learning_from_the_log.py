"""A source with the log added: what was answered and labelled becomes training data."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from heliotrope.adapters.delta_store import DeltaSnapshotStore
from heliotrope.adapters.joined_source import JoinedSource
from heliotrope.adapters.source_reader import DuckDBSourceReader
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.errors import DataFault
from heliotrope.service.snapshot import take_snapshot
from heliotrope.spec import ModelSpec, parse_spec

DAY = datetime(2026, 3, 2, tzinfo=UTC)
NOW = DAY + timedelta(days=20)
STAMP = pa.timestamp("us", "UTC")
PREDICTIONS = pa.schema([
    ("prediction_id", pa.string()), ("version", pa.string()), ("role", pa.string()),
    ("predicted_at", STAMP), ("received_at", STAMP), ("entity_key", pa.string()),
    ("prediction", pa.string()), ("score", pa.float64()), ("spool_id", pa.string()),
    ("spool_sequence", pa.int64()), ("f_grade", pa.string()), ("f_income", pa.float32()),
    ("day", pa.date32()),
])  # fmt: skip
LABELS = pa.schema([
    ("label_id", pa.string()), ("prediction_id", pa.string()), ("entity_key", pa.string()),
    ("label", pa.string()), ("happened_at", STAMP), ("received_at", STAMP), ("day", pa.date32()),
])  # fmt: skip


def spec_of(path: Path, positive: str = "true", more: str = "") -> ModelSpec:
    return parse_spec(f"""
name: loans
task: binary
label: {{name: bad, positive: {positive}, delay: 3d}}
entity_key: loan
event_time: at
source: {{path: '{path}', predictions: true}}
features:
  - {{name: grade, type: category, categories: [A, B]}}
  - {{name: income, type: float, nullable: true}}
metrics: {{primary: accuracy}}
{more}
""")


def answered(name: str, days: float, loan: int, role: str = "champion", **more: object) -> dict:
    at = DAY + timedelta(days=days)
    return {
        "prediction_id": name, "version": "1", "role": role, "predicted_at": at,
        "received_at": at, "entity_key": str(loan), "prediction": "false", "score": 0.2,
        "spool_id": "s", "spool_sequence": 1, "f_grade": "B", "f_income": 7.5, "day": at.date(),
        **more,
    }  # fmt: skip


def told(name: str, target: str, value: str) -> dict:
    at = DAY + timedelta(days=9)
    return {
        "label_id": name, "prediction_id": target, "entity_key": None, "label": value,
        "happened_at": None, "received_at": at, "day": at.date(),
    }  # fmt: skip


def write(store: Path, table: str, rows: list[dict], schema: pa.Schema) -> None:
    data = pa.Table.from_pylist(rows, schema=schema)
    write_deltalake(str(store / table / "loans"), data, mode="append", partition_by=["day"])


def log(store: Path, predictions: list[dict], labels: list[dict]) -> None:
    write(store, "predictions", predictions, PREDICTIONS)
    write(store, "labels", labels, LABELS)


def history(path: Path, bad: object = False, other: object = True) -> Path:
    rows = pd.DataFrame({
        "loan": [1, 2], "grade": ["A", "B"], "income": [1.0, None], "bad": [bad, other],
        "at": [DAY - timedelta(days=3), DAY - timedelta(days=2)], "unused": [0, 0],
    })  # fmt: skip
    rows.to_csv(path, index=False) if path.suffix == ".csv" else rows.to_parquet(path)
    return path


def snapshot(tmp_path: Path, spec: ModelSpec, **more: object) -> tuple[SnapshotRef, list[dict]]:
    store = DeltaSnapshotStore(str(tmp_path / "store"))
    reader = JoinedSource(DuckDBSourceReader(), str(tmp_path / "store"), spec, **more)
    ref = take_snapshot(spec, reader, store, NOW)
    with store.open(ref) as table:
        return ref, table.order_by("_row").to_pyarrow().to_pylist()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_labelled_answers_follow_the_source_typed_as_it_is(tmp_path, ending):
    spec = spec_of(history(tmp_path / f"history.{ending}"))
    log(
        tmp_path / "store",
        [
            answered("a", 1, 11),
            answered("b", 2, 12, f_income=None),
            answered("b", 2, 12, f_income=None),
            answered("c", 1.5, 13),
            answered("shadow", 1, 14, role="shadow"),
            answered("late", 18, 15),
        ],
        [
            told("1", "a", "true"), told("2", "b", "false"), told("3", "shadow", "true"),
            told("4", "late", "true"),
        ],
    )  # fmt: skip
    ref, rows = snapshot(tmp_path, spec)
    assert [(row["loan"], row["grade"], row["income"], row["bad"]) for row in rows] == [
        *(((1, "A", 1.0, False), (2, "B", None, True)) if ending == "parquet" else
          (("1", "A", 1.0, False), ("2", "B", None, True))),
        *(((11, "B", 7.5, True), (12, "B", None, False)) if ending == "parquet" else
          (("11", "B", 7.5, True), ("12", "B", None, False))),
    ]  # fmt: skip
    assert rows[2]["at"] == DAY + timedelta(days=1)
    assert ref.immature_rows == 1


def test_a_row_of_the_source_wins_over_the_answer_for_the_same_entity(tmp_path):
    spec = spec_of(history(tmp_path / "history.parquet"))
    log(tmp_path / "store", [answered("a", 1, 2)], [told("1", "a", "false")])
    _, rows = snapshot(tmp_path, spec)
    assert [(row["loan"], row["bad"]) for row in rows] == [(1, False), (2, True)]


def test_nothing_is_learnt_from_a_time_whose_features_were_broken(tmp_path):
    spec = spec_of(history(tmp_path / "history.parquet"))
    log(
        tmp_path / "store",
        [answered("a", 1, 11), answered("b", 2, 12), answered("c", 3, 13)],
        [told("1", "a", "true"), told("2", "b", "true"), told("3", "c", "true")],
    )
    broken = (DAY + timedelta(days=2), DAY + timedelta(days=3))
    _, rows = snapshot(tmp_path, spec, faulty=lambda: [broken])
    assert [row["loan"] for row in rows] == [1, 2, 11, 13]


def test_a_label_of_whole_numbers_gets_whole_numbers(tmp_path):
    spec = spec_of(history(tmp_path / "history.parquet", bad=0, other=1), positive="1")
    log(
        tmp_path / "store",
        [answered("a", 1, 11, prediction="not 1"), answered("b", 2, 12, prediction="1")],
        [told("1", "a", "0"), told("2", "b", "1")],
    )
    _, rows = snapshot(tmp_path, spec)
    assert [row["bad"] for row in rows] == [0, 1, 0, 1]


def test_without_a_log_the_source_is_all_there_is(tmp_path):
    spec = spec_of(history(tmp_path / "history.parquet"))
    assert [row["loan"] for row in snapshot(tmp_path, spec)[1]] == [1, 2]


def test_an_unreadable_value_is_still_found_where_it_is(tmp_path):
    path = history(tmp_path / "history.csv")
    path.write_text(path.read_text().replace("1.0", "much"))
    log(tmp_path / "store", [answered("a", 1, 11)], [told("1", "a", "true")])
    with pytest.raises(DataFault, match=r"income must be a number.*'much' at line 2"):
        snapshot(tmp_path, spec_of(path))
