"""Training on real arrays: what is learnt, what is written, what is refused."""

import errno
import itertools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from heliotrope.adapters.onnx_model import OnnxScorer, benchmark_onnx
from heliotrope.adapters.sklearn_model import SavedPipeline, SklearnTrainer
from heliotrope.domain.serving import ServingContract
from heliotrope.domain.training import TrainingRecord
from heliotrope.errors import DataFault, HeliotropeError, ParityError, UsageError
from heliotrope.ports import LabelledRows
from heliotrope.service.parity import check_parity
from heliotrope.service.training import train
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.vocabulary import ONNX_FILE, SERVING_FILE, SKOPS_FILE, TRAINING_FILE

GRADES = ("A", "B", "C")
LABELS = {
    "binary": "label: {name: y, positive: 1}\nmetrics: {primary: roc_auc}",
    "multiclass": "label: {name: y, classes: [low, middle, high]}\nmetrics: {primary: log_loss}",
    "regression": "label: {name: y}\nmetrics: {primary: mae}",
}


class Rows:
    """Rows in memory, as a snapshot would give them."""

    def __init__(self, spec: ModelSpec, features: npt.NDArray[Any], labels: npt.NDArray[Any]):
        self.spec, self.features, self.labels = spec, features.astype(np.float32), labels

    @property
    def rows(self) -> int:
        return len(self.labels)

    def event_time(self) -> npt.NDArray[Any] | None:
        if self.spec.event_time is None:
            return None
        return np.datetime64("2024-01-01", "us") + np.arange(self.rows) // 3

    def class_counts(self, rows: range) -> Mapping[str, int]:
        codes = self.labels[rows.start : rows.stop]
        return {name: int(np.sum(codes == i)) for i, name in enumerate(self.spec.classes)}

    def load(self, rows: range) -> LabelledRows:
        part = slice(rows.start, rows.stop)
        return LabelledRows(
            self.features[part], self.labels[part], np.arange(rows.start, rows.stop)
        )

    def raw(self) -> list[dict[str, Any]]:
        """The same rows as a person would send them."""
        rows = []
        for income, ratio, grade, owner in self.features.tolist():
            rows.append(
                {
                    "income": income,
                    "ratio": None if np.isnan(ratio) else ratio,
                    "grade": None if np.isnan(grade) else GRADES[int(grade)],
                    "owner": bool(owner),
                }
            )
        return rows


def make_spec(task: str, **trainer: Any) -> ModelSpec:
    return parse_spec(f"""
name: loans
task: {task}
event_time: happened
{LABELS[task]}
source: {{path: loans.csv}}
features:
  - {{name: income, type: float, min: 0}}
  - {{name: ratio, type: float, nullable: true}}
  - {{name: grade, type: category, categories: [A, B, C], nullable: true}}
  - {{name: owner, type: boolean}}
trainer: {json.dumps(trainer)}
""")


def make_rows(spec: ModelSpec, task: str, n: int = 4000, seed: int = 3) -> Rows:
    rng = np.random.default_rng(seed)
    income = rng.lognormal(10, 1, n)
    ratio = np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n))
    grade = np.where(rng.random(n) < 0.05, np.nan, rng.integers(0, 3, n).astype(float))
    owner = (rng.random(n) < 0.4).astype(float)
    signal = np.log(income) - 10 + np.nan_to_num(ratio) - (grade == 1) * 1.5 + owner
    noisy = signal + rng.logistic(size=n) * 0.5
    labels: npt.NDArray[Any] = noisy * 100
    if task == "binary":
        labels = (noisy > 1).astype(np.int8)
    elif task == "multiclass":
        labels = np.digitize(noisy, [-0.5, 1.2]).astype(np.int32)
    return Rows(spec, np.column_stack([income, ratio, grade, owner]), labels)


def build_logistic(spec: ModelSpec) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())


def build_forest(spec: ModelSpec) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(SimpleImputer(), build_forest_over_missing(spec))


def build_forest_over_missing(spec: ModelSpec) -> Any:
    return RandomForestClassifier(n_estimators=20, max_depth=5)


def build_ridge(spec: ModelSpec) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(SimpleImputer(), StandardScaler(), Ridge())


def build_bare_logistic(spec: ModelSpec) -> Any:
    return LogisticRegression()


def build_native_categories(spec: ModelSpec) -> Any:
    return HistGradientBoostingClassifier(categorical_features=[2], max_iter=5)


def build_nothing(spec: ModelSpec) -> Any:
    return None


def build_regressor(spec: ModelSpec) -> Any:
    return build_ridge(spec)


def build_breaks(spec: ModelSpec) -> Any:
    raise RuntimeError("no such luck")


NOT_A_FUNCTION = 3


class Sickly(ClassifierMixin, BaseEstimator):
    """Fits anything and answers NaN."""

    def fit(self, X: Any, y: Any) -> "Sickly":
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[Any]:
        return np.full((len(X), 2), np.nan)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        return np.zeros(len(X), dtype=int)


def build_sickly(spec: ModelSpec) -> Any:
    return Sickly()


class Own(LogisticRegression):
    """A class of one's own, which neither file format may hold."""


def build_own(spec: ModelSpec) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(SimpleImputer(), Own())


@pytest.fixture
def builders(monkeypatch: pytest.MonkeyPatch) -> str:
    import sys

    name = "heliotrope_test_builders"
    monkeypatch.setitem(sys.modules, name, sys.modules[__name__])
    return name


def run(spec: ModelSpec, rows: Rows, out: Path) -> TrainingRecord:
    return train(spec, rows, SklearnTrainer(), out, time.monotonic)


def parity_of(spec: ModelSpec, rows: Rows, folder: Path) -> Any:
    contract = ServingContract.from_json((folder / SERVING_FILE).read_bytes())
    saved = SavedPipeline(folder, spec)
    return check_parity(contract, rows.raw(), saved.score_raw, OnnxScorer(folder / ONNX_FILE))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_default_trainer_beats_the_trivial_answer_and_serves_what_it_learnt(
    task: str, tmp_path: Path
) -> None:
    spec = make_spec(task)
    rows = make_rows(spec, task)
    record = run(spec, rows, tmp_path / "model")
    holdout = slice(record.holdout.row_from, record.holdout.row_to)
    truth = rows.labels[holdout]
    scores = OnnxScorer(tmp_path / "model" / ONNX_FILE).score(rows.features[holdout])
    if task == "regression":
        assert np.mean((scores - truth) ** 2) < 0.5 * np.var(truth)
    else:
        answers = (scores >= 0.5).astype(int) if task == "binary" else scores.argmax(axis=1)
        majority = np.bincount(truth.astype(int)).max() / len(truth)
        assert np.mean(answers == truth) > majority + 0.05
    report = parity_of(spec, rows, tmp_path / "model").require()
    assert report.rows == rows.rows
    assert sum(record.importances.values()) == pytest.approx(1)
    assert list(record.importances.values()) == sorted(record.importances.values(), reverse=True)
    assert min(record.curve["validation"]) < record.curve["validation"][0]
    assert record.calibration_method == {"binary": "sigmoid", "multiclass": "temperature"}.get(task)
    assert record.peak_rss_bytes > 10_000_000


def test_raw_data_frame_through_the_pipeline_equals_the_matrix_to_the_bit(tmp_path: Path) -> None:
    spec = make_spec("binary")
    rows = make_rows(spec, "binary", 800)
    run(spec, rows, tmp_path / "model")
    saved = SavedPipeline(tmp_path / "model", spec)
    frame = pd.DataFrame(rows.raw())
    assert np.array_equal(saved.pipeline.predict_proba(frame)[:, 1], saved.score(rows.features))
    nullable = frame.convert_dtypes()
    assert np.array_equal(saved.pipeline.predict_proba(nullable)[:, 1], saved.score(rows.features))


def test_calibration_makes_mean_probability_meet_the_rate_of_the_later_rows(tmp_path: Path) -> None:
    spec = make_spec("binary", parameters={"early_stopping": False, "max_iter": 300})
    rows = make_rows(spec, "binary")
    record = run(spec, rows, tmp_path / "model")
    later = slice(record.calibration.row_from, record.calibration.row_to)
    scores = OnnxScorer(tmp_path / "model" / ONNX_FILE).score(rows.features[later])
    assert scores.mean() == pytest.approx(rows.labels[later].mean(), abs=0.01)


def test_parts_follow_each_other_in_time_and_cover_the_snapshot(tmp_path: Path) -> None:
    spec = make_spec("binary")
    rows = make_rows(spec, "binary", 1000)
    record = run(spec, rows, tmp_path / "model")
    parts = [record.train, record.calibration, record.holdout]
    assert [p.row_from for p in parts] == [0, parts[0].row_to, parts[1].row_to]
    assert parts[-1].row_to == 1000
    assert sum(p.rows for p in parts) == 1000
    for before, after in itertools.pairwise(parts):
        assert before.event_to < after.event_from


@pytest.mark.parametrize(
    ("task", "builder", "method"),
    [
        ("binary", "build_logistic", "sigmoid"),
        ("multiclass", "build_logistic", "temperature"),
        ("binary", "build_forest", "sigmoid"),
        ("multiclass", "build_forest", "sigmoid"),
        ("regression", "build_ridge", None),
    ],
)
@pytest.mark.parametrize("calibrate", [True, False])
def test_an_estimator_of_ones_own_is_trained_saved_exported_and_served(
    task: str, builder: str, method: str | None, calibrate: bool, builders: str, tmp_path: Path
) -> None:
    spec = make_spec(task, build=f"{builders}:{builder}", calibrate=calibrate)
    rows = make_rows(spec, task, 1500)
    record = run(spec, rows, tmp_path / "model")
    assert record.calibration_method == (method if calibrate else None)
    parity_of(spec, rows, tmp_path / "model").require()


def test_the_gate_catches_an_export_that_answers_otherwise(builders: str, tmp_path: Path) -> None:
    """skl2onnx forgets which way a forest sends missing values."""
    spec = make_spec("binary", build=f"{builders}:build_forest_over_missing")
    rows = make_rows(spec, "binary", 1500)
    run(spec, rows, tmp_path / "model")
    report = parity_of(spec, rows, tmp_path / "model")
    assert not report.passed
    worst = rows.raw()[report.worst_row]
    assert None in worst.values()
    with pytest.raises(ParityError, match=f"in row {report.worst_row};"):
        report.require()


def test_a_rare_class_leaves_calibration_out_and_says_so(tmp_path: Path) -> None:
    spec = make_spec("binary")
    rows = make_rows(spec, "binary", 1000)
    rows.labels = np.zeros(1000, dtype=np.int8)
    rows.labels[::50] = 1
    record = run(spec, rows, tmp_path / "model")
    assert record.calibration_method is None
    assert any("calibration and early stopping left out" in w for w in record.warnings)


def test_one_class_to_train_on_is_a_data_fault(tmp_path: Path) -> None:
    spec = make_spec("binary")
    rows = make_rows(spec, "binary", 500)
    rows.labels = (np.arange(500) > 450).astype(np.int8)
    with pytest.raises(DataFault, match=r"train rows must hold at least two classes.*class '0'"):
        run(spec, rows, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_class_absent_from_the_train_rows_is_named(tmp_path: Path) -> None:
    spec = make_spec("multiclass")
    rows = make_rows(spec, "multiclass", 500)
    rows.labels = np.where(rows.labels == 1, 0, rows.labels)
    with pytest.raises(DataFault, match="none of 'middle'"):
        run(spec, rows, tmp_path / "model")


def test_a_constant_target_trains_and_warns(tmp_path: Path) -> None:
    spec = make_spec("regression")
    rows = make_rows(spec, "regression", 600)
    rows.labels = np.full(600, 7.0)
    record = run(spec, rows, tmp_path / "model")
    assert any("label of all 390 train rows is 7" in w for w in record.warnings)
    assert record.importances == {}
    scores = OnnxScorer(tmp_path / "model" / ONNX_FILE).score(rows.features)
    assert scores == pytest.approx(np.full(600, 7.0))


@pytest.mark.parametrize(
    ("trainer", "error", "message"),
    [
        ({"parameters": {"max_itre": 3}}, UsageError, "max_itre must be a known.*max_iter"),
        ({"parameters": {"random_state": 3}}, UsageError, "it is trainer.seed"),
        ({"parameters": {"categorical_features": [0]}}, UsageError, "cannot be exported"),
        ({"parameters": {"max_iter": -1}}, UsageError, "'max_iter' parameter.*-1"),
        ({"build": "no_such_module_here:build"}, UsageError, "no module 'no_such_module_here'"),
        ({"build": "{m}:no_such_function"}, UsageError, "which it lacks"),
        ({"build": "{m}:NOT_A_FUNCTION"}, UsageError, "must name a function. Got .* a int"),
        ({"build": "{m}:build_nothing"}, UsageError, "estimator. Got NoneType"),
        ({"build": "{m}:build_regressor"}, UsageError, "must return a classifier"),
        ({"build": "{m}:build_breaks"}, UsageError, "RuntimeError: no such luck"),
        ({"build": "{m}:build_bare_logistic"}, HeliotropeError, "Input X contains NaN"),
        ({"build": "{m}:build_sickly"}, HeliotropeError, "finite scores.*NaN"),
        ({"build": "{m}:build_own"}, UsageError, "cannot be exported.*Own"),
        ({"build": "{m}:build_native_categories"}, UsageError, "categorical splits cannot be"),
    ],
)
def test_a_wrong_trainer_is_refused_in_words_and_leaves_nothing(
    trainer: dict[str, Any],
    error: type[Exception],
    message: str,
    builders: str,
    tmp_path: Path,
) -> None:
    if "build" in trainer:
        trainer = {"build": trainer["build"].replace("{m}", builders)}
    spec = make_spec("binary", **trainer)
    with pytest.raises(error, match=f"(?s){message}"):
        run(spec, make_rows(spec, "binary", 600), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_appears_whole_and_replaces_the_one_before(tmp_path: Path) -> None:
    spec = make_spec("regression")
    out = tmp_path / "deep" / "model"
    out.mkdir(parents=True)
    (out / "stale").write_text("old")
    (out.parent / ".model.partial").mkdir()
    run(spec, make_rows(spec, "regression", 600), out)
    files = {ONNX_FILE, SERVING_FILE, SKOPS_FILE, TRAINING_FILE}
    assert {p.name for p in out.iterdir()} == files
    assert [p.name for p in out.parent.iterdir()] == ["model"]


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec("regression")
    write = Path.write_text

    def full(self: Path, *args: Any, **kwargs: Any) -> int:
        if self.name == SERVING_FILE:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(HeliotropeError, match="could not be written: No space left"):
        run(spec, make_rows(spec, "regression", 600), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_without_a_calibration_part_rounds_are_fixed_and_the_curve_is_of_train_rows(
    tmp_path: Path,
) -> None:
    spec = make_spec("binary", parameters={"max_iter": 12})
    spec = spec.model_copy(update={"split": spec.split.model_copy(update={"calibration": 0.0})})
    record = run(spec, make_rows(spec, "binary", 900), tmp_path / "model")
    assert record.calibration.rows == 0
    assert len(record.curve["train"]) == 12
    assert "validation" not in record.curve
    assert any("importances were measured on train rows" in w for w in record.warnings)


def test_benchmark_measures_the_saved_graph(tmp_path: Path) -> None:
    spec = make_spec("binary")
    rows = make_rows(spec, "binary", 600)
    run(spec, rows, tmp_path / "model")
    path = tmp_path / "model" / ONNX_FILE
    figures = benchmark_onnx(path, rows.features[:3], repeats=30)
    assert figures["onnx_bytes"] == path.stat().st_size
    assert figures["onnx_row_us"] > 0
    assert figures["onnx_rows_per_second"] > 0
