"""One suite on both engines: the same rows give the same statistics, to the bit but for logarithms.

DuckDB and Spark take logarithms from different libraries, which differ in the last bit; log losses
may therefore differ by one unit of the fixed point (1e-9) a row.
"""

import importlib.util
import math
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heliotrope.adapters.truth_engine import TruthEngine, duckdb_truth, spark_truth
from heliotrope.domain.truth.cell import Cell, CellKey, split_rows
from heliotrope.domain.truth.folding import fold
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.spec import parse_spec

DAY0 = datetime(2026, 3, 2, tzinfo=UTC)
STAMP = pa.timestamp("us", "UTC")
HEAD = "name: m\nevent_time: at\nsource: {path: nowhere.parquet}\n"
FEATURES = """
features:
  - {name: grade, type: category, categories: [A, B]}
  - {name: rich, type: boolean}
  - {name: income, type: float}
slices: [{feature: grade}, {feature: rich}, {feature: income, bins: [10, 20.1]}]
"""
SPECS = {
    "binary": HEAD + "task: binary\nlabel: {name: y, positive: true}\n"
    "metrics: {primary: roc_auc, others: [log_loss, brier, accuracy]}" + FEATURES,
    "multiclass": HEAD + "task: multiclass\nlabel: {name: y, classes: [a, b, c]}\n"
    "metrics: {primary: accuracy, others: [log_loss, roc_auc, f1]}" + FEATURES,
    "regression": HEAD + "task: regression\nlabel: {name: y}\n"
    "metrics: {primary: mae, others: [rmse, r2]}" + FEATURES,
}


def skip_reason() -> str | None:
    if importlib.util.find_spec("pyspark") is None:
        return "PySpark is not installed (extra `spark`)"
    if shutil.which("java") is None:
        return "there is no Java"
    return None


@pytest.fixture(scope="module", params=["duckdb", "spark"])
def engine(request: pytest.FixtureRequest) -> Iterator[TruthEngine]:
    if request.param == "duckdb":
        with duckdb_truth() as opened:
            yield opened
        return
    if reason := skip_reason():
        pytest.skip(reason)
    with spark_truth() as session:
        yield session


@pytest.fixture(scope="module")
def reference() -> Iterator[TruthEngine]:
    with duckdb_truth() as opened:
        yield opened


def events(task: str, folder: Path, rows: int = 400) -> tuple[list[str], list[str]]:
    """Two files of predictions (with repeats and odd values) and two of labels."""
    rng = np.random.default_rng(5)
    number = rng.integers(0, rows - 60, rows)
    names = {"binary": ["false", "true"], "multiclass": ["a", "b", "c"], "regression": [""]}[task]
    at = [DAY0 + timedelta(hours=int(n) % 70, microseconds=int(n)) for n in number]
    vectors = np.random.default_rng(6).dirichlet([1, 1, 1], rows)[number]
    score = {
        "binary": (number % 97) / 96,
        "multiclass": vectors.max(axis=1),
        "regression": np.sin(number) * 10.0 ** (number % 9 - 2),
    }[task]
    called = {
        "binary": (score >= 0.5).astype(int),
        "multiclass": vectors.argmax(axis=1),
        "regression": np.zeros(rows, int),
    }[task]
    odd = [math.nan if n % 41 == 3 else (None if n % 41 == 4 else float(s))
           for n, s in zip(number, score, strict=True)]  # fmt: skip
    table = pa.table({
        "prediction_id": [f"p{n}" for n in number],
        "version": [str(n % 2) for n in number],
        "role": ["champion"] * rows,
        "predicted_at": pa.array(at, STAMP),
        "entity_key": [f"e{n % 50}" if n % 3 else None for n in number],
        "prediction": [names[c] for c in called],
        "score": pa.array(odd, pa.float64()),
        "scores": pa.array(vectors.tolist() if task == "multiclass" else [None] * rows,
                           pa.list_(pa.float64())),
        "f_grade": [("A", "B", "Z", None)[n % 4] for n in number],
        "f_rich": [(True, False, None)[n % 3] for n in number],
        "f_income": pa.array([float(n % 31) for n in number], pa.float32()),
    })  # fmt: skip
    target = rng.integers(0, rows, rows)
    told = {
        "binary": [("true", "false", "maybe")[n % 3] for n in target],
        "multiclass": [("a", "b", "c", "d")[n % 4] for n in target],
        "regression": [("x", "inf", str(math.cos(int(n)) * 10.0 ** int(n % 9 - 2)))[min(n % 9, 2)]
                       for n in target],
    }[task]  # fmt: skip
    received = [DAY0 + timedelta(hours=int(h)) for h in rng.integers(-5, 200, rows)]
    labels = pa.table({
        "label_id": [f"l{n}" for n in rng.integers(0, 300, rows)],
        "prediction_id": [f"p{n}" if n % 4 else None for n in target],
        "entity_key": [None if n % 4 else f"e{n % 50}" for n in target],
        "label": told,
        "happened_at": pa.array([r if i % 2 else None for i, r in enumerate(received)], STAMP),
        "received_at": pa.array(received, STAMP),
    })  # fmt: skip
    files: tuple[list[str], list[str]] = ([], [])
    for place, whole in enumerate((table, labels)):
        for part, cut in enumerate((whole.slice(0, 250), whole.slice(250))):
            path = folder / f"{place}-{part}.parquet"
            pq.write_table(cut, path)
            files[place].append(str(path))
    return files


def recomputed(engine: TruthEngine, plan: TruthPlan, files: Any) -> dict[CellKey, Cell]:
    return dict(split_rows(engine.recompute(*files, plan)))


@pytest.mark.parametrize("task", list(SPECS))
def test_engines_agree_with_each_other(
    engine: TruthEngine, reference: TruthEngine, task: str, tmp_path: Path
) -> None:
    plan = TruthPlan.of(parse_spec(SPECS[task]))
    files = events(task, tmp_path)
    found, known = recomputed(engine, plan, files), recomputed(reference, plan, files)
    assert found.keys() == known.keys()
    assert sum(fold(cell, plan).labelled for cell in known.values()) > 200
    for key, cell in known.items():
        assert np.array_equal(found[key].keys, cell.keys), key
        off = np.abs(found[key].sums - cell.sums)
        assert (off <= cell.sums[:, :1]).all(), key


@pytest.mark.parametrize("task", list(SPECS))
def test_parts_with_their_restatement_add_up_to_the_whole(
    engine: TruthEngine, task: str, tmp_path: Path
) -> None:
    """What a tick does: rows as they were taken out, as they are put in."""
    plan = TruthPlan.of(parse_spec(SPECS[task]))
    files = events(task, tmp_path)
    predictions = pa.concat_tables(list(engine.prediction_rows(files[0], plan, 100)))
    labels = pa.concat_tables(list(engine.label_rows(files[1], plan, 100)))
    before = signed(predictions, 1)
    unlabelled = dict(split_rows(engine.cells(before, signed(labels.slice(0, 0), 1), plan, False)))
    both = pa.concat_tables([signed(predictions, -1), before])
    restated = dict(split_rows(engine.cells(both, signed(labels, 1), plan, True)))
    total = {key: cell + restated.get(key, Cell.empty()) for key, cell in unlabelled.items()}
    assert total == recomputed(engine, plan, files)


def signed(table: pa.Table, sign: int) -> pa.Table:
    return table.append_column("sign", pa.array([sign] * table.num_rows, pa.int64()))


def test_unusable_labels_are_counted(engine: TruthEngine, tmp_path: Path) -> None:
    plan = TruthPlan.of(parse_spec(SPECS["binary"]))
    _, labels = events("binary", tmp_path)
    raw = pa.concat_tables([pq.read_table(path) for path in labels])
    unusable = sum(text == "maybe" for text in raw.column("label").to_pylist())
    assert engine.unusable_labels(labels, plan) == unusable > 0


def test_a_negative_class_is_known_by_its_name_before_the_spec_named_it(
    engine: TruthEngine, tmp_path: Path
) -> None:
    named = SPECS["binary"].replace("positive: true", "positive: late, negative: paid")
    path = tmp_path / "labels.parquet"
    said = ["late", "paid", "not late", "maybe", "Late"]
    _, labels = events("binary", tmp_path)
    raw = pq.read_table(labels[0]).slice(0, len(said))
    place = raw.column_names.index("label")
    pq.write_table(raw.set_column(place, "label", pa.array(said)), path)
    assert engine.unusable_labels([str(path)], TruthPlan.of(parse_spec(named))) == 2


def test_no_files_give_nothing(engine: TruthEngine) -> None:
    plan = TruthPlan.of(parse_spec(SPECS["binary"]))
    assert recomputed(engine, plan, ([], [])) == {}
    assert list(engine.prediction_rows([], plan, 10)) == []
    assert engine.unusable_labels([], plan) == 0


def test_predictions_without_any_label_table_are_unlabelled(
    engine: TruthEngine, tmp_path: Path
) -> None:
    plan = TruthPlan.of(parse_spec(SPECS["binary"]))
    files, _ = events("binary", tmp_path)
    cells = recomputed(engine, plan, (files, []))
    assert cells
    assert all(fold(cell, plan).labelled == 0 for cell in cells.values())
