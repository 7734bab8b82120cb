"""The exported graph answers as the fitted model: random models, missing values, hard edges."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from heliotrope.adapters.onnx_model import OnnxScorer, export_onnx
from heliotrope.adapters.sklearn_model import SklearnTrainer, score_matrix
from heliotrope.adapters.tree_thresholds import round_down, round_thresholds
from heliotrope.domain.parity import compare_scores
from heliotrope.errors import HeliotropeError, NotFoundError, UsageError
from heliotrope.ports import LabelledRows
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.spec.features import FLOAT32_MAX
from heliotrope.vocabulary import ONNX_FILE, Task

FEATURES = 4
LABELS = {
    Task.BINARY: ("{name: y, positive: 1}", "log_loss"),
    Task.MULTICLASS: ("{name: y, classes: [a, b, c]}", "log_loss"),
    Task.REGRESSION: ("{name: y}", "mae"),
}


def make_spec(task: Task, seed: int, calibrate: bool) -> ModelSpec:
    label, primary = LABELS[task]
    columns = "".join(f"  - {{name: x{i}, type: float, nullable: true}}\n" for i in range(FEATURES))
    return parse_spec(f"""
name: m
task: {task}
label: {label}
metrics: {{primary: {primary}}}
source: {{path: x.csv}}
features:
{columns}
trainer:
  seed: {seed}
  calibrate: {str(calibrate).lower()}
  parameters: {{max_iter: 15, min_samples_leaf: 3}}
""")


def random_rows(task: Task, seed: int, missing: float, scale: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(400, FEATURES)) * scale).astype(np.float32)
    # Few different values: scikit-learn then puts thresholds on midpoints, which float32 lacks.
    features[:, 1] = np.float32(rng.choice([0.1, 0.2, 0.3, 1 / 3], 400) * scale)
    features[:, 2] = rng.integers(0, 5, 400)
    signal = features[:, 0] / scale + (features[:, 2] == 2) + rng.normal(size=400) * 0.3
    features[rng.random(features.shape) < missing] = np.nan
    if task is Task.REGRESSION:
        return features, signal * scale
    return features, np.digitize(signal, [0.3] if task is Task.BINARY else [-0.3, 0.6])


def edges(model: Any, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows on, just below and just above every threshold of a model, and at float32's ends."""
    inner = getattr(model, "estimator", model)
    inner = getattr(inner, "estimator", inner)
    rows = []
    for tree in (tree for stage in inner._predictors for tree in stage):
        for node in tree.nodes[tree.nodes["is_leaf"] == 0]:
            row = features[len(rows) % len(features)].copy()
            threshold = np.float32(node["num_threshold"])
            away = np.float32((-np.inf, np.inf)[len(rows) % 2])
            row[node["feature_idx"]] = (threshold, np.nextafter(threshold, away))[len(rows) % 3 > 0]
            rows.append(row)
    ends = np.array([FLOAT32_MAX, -FLOAT32_MAX, 0.0, -0.0, 1e-45, np.nan], dtype=np.float32)
    rows += [np.full(FEATURES, end, dtype=np.float32) for end in ends]
    return np.array(rows)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    task=st.sampled_from(list(Task)),
    seed=st.integers(0, 10_000),
    missing=st.sampled_from([0.0, 0.2]),
    scale=st.sampled_from([1.0, 1e-3, 1e6]),
    calibrate=st.booleans(),
)
def test_graph_and_model_agree_on_every_row_and_every_edge(
    task: Task, seed: int, missing: float, scale: float, calibrate: bool, tmp_path: Path
) -> None:
    features, labels = random_rows(task, seed, missing, scale)
    model = SklearnTrainer().fit(
        make_spec(task, seed, calibrate),
        LabelledRows(features[:300], labels[:300], np.arange(300)),
        LabelledRows(features[300:], labels[300:], np.arange(300, len(labels))),
    )
    model.save(tmp_path)
    inner = model.pipeline.named_steps["model"]
    probe = np.vstack([features, edges(inner, features)])
    served = OnnxScorer(tmp_path / ONNX_FILE).score(probe)
    compare_scores(model.score(probe), served, task, 0.5).require()
    raw = [{f"x{i}": value for i, value in enumerate(row)} for row in probe[:50].tolist()]
    assert np.array_equal(model.score_raw(raw), model.score(probe[:50]))


@given(st.lists(st.floats(allow_nan=False, width=64), min_size=1), st.floats(width=32))
def test_rounding_a_threshold_down_changes_no_decision_on_float32(
    thresholds: list[float], value: float
) -> None:
    exact = np.array(thresholds)
    rounded = round_down(exact)
    assert np.array_equal(rounded, rounded.astype(np.float32).astype(np.float64))
    assert np.array_equal(value <= exact, value <= rounded)


def test_rounding_thresholds_leaves_the_model_s_answers_as_they_were() -> None:
    features, labels = random_rows(Task.BINARY, 1, 0.1, 1.0)
    model = HistGradientBoostingClassifier(max_iter=10, min_samples_leaf=3).fit(features, labels)
    before = model.predict_proba(features)
    assert round_thresholds(model) == 10
    assert np.array_equal(model.predict_proba(features), before)
    nodes = np.concatenate([tree.nodes for (tree,) in model._predictors])
    values = nodes["num_threshold"][nodes["is_leaf"] == 0]
    assert np.array_equal(values, values.astype(np.float32))


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "poisson", "gamma"])
def test_every_loss_of_the_default_regressor_is_served(loss: str, tmp_path: Path) -> None:
    features, labels = random_rows(Task.REGRESSION, 2, 0.1, 1.0)
    positive = np.abs(labels) + 0.1
    model = HistGradientBoostingRegressor(loss=loss, max_iter=15).fit(features, positive)
    round_thresholds(model)
    export_onnx(model, Task.REGRESSION, FEATURES, tmp_path / ONNX_FILE)
    served = OnnxScorer(tmp_path / ONNX_FILE).score(features)
    compare_scores(
        score_matrix(model, Task.REGRESSION, features), served, Task.REGRESSION
    ).require()


def test_the_graph_keeps_the_contract_with_the_predictor(tmp_path: Path) -> None:
    features, labels = random_rows(Task.MULTICLASS, 3, 0.0, 1.0)
    model = HistGradientBoostingClassifier(max_iter=3).fit(features, labels)
    export_onnx(model, Task.MULTICLASS, FEATURES, tmp_path / ONNX_FILE)
    graph = onnx.load(tmp_path / ONNX_FILE).graph
    assert [i.name for i in graph.input] == ["features"]
    assert [o.name for o in graph.output] == ["scores"]
    scorer = OnnxScorer(tmp_path / ONNX_FILE)
    assert scorer.score(features[:1]).shape == (1, 3)
    assert scorer.score(features[:0]).shape == (0, 3)
    assert scorer.score(features).sum(axis=1) == pytest.approx(np.ones(400))


def test_categorical_splits_are_refused_since_they_would_be_exported_wrongly(
    tmp_path: Path,
) -> None:
    features, labels = random_rows(Task.BINARY, 4, 0.0, 1.0)
    model = HistGradientBoostingClassifier(max_iter=3, categorical_features=[2])
    with pytest.raises(UsageError, match="must not use categorical_features"):
        export_onnx(model.fit(features, labels), Task.BINARY, FEATURES, tmp_path / ONNX_FILE)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_graph_of_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ONNX_FILE
    with pytest.raises(NotFoundError, match="must exist"):
        OnnxScorer(path)
    path.write_bytes(b"not a graph")
    with pytest.raises(HeliotropeError, match="must be an ONNX model"):
        OnnxScorer(path)
    info = onnx.helper.make_tensor_value_info
    foreign = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["a"], ["b"])],
        "g",
        [info("a", onnx.TensorProto.FLOAT, [1])],
        [info("b", onnx.TensorProto.FLOAT, [1])],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    proto = onnx.helper.make_model(foreign, opset_imports=opset, ir_version=9)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(HeliotropeError, match="must have the input 'features'"):
        OnnxScorer(path)
