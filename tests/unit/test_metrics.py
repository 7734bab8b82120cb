"""Every metric equals scikit-learn's, weights and ties included, and is NaN where undefined."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from heliotrope.domain.metrics import Answers, equal_count_bins
from heliotrope.spec.metrics import METRICS, metrics_for
from heliotrope.vocabulary import Task


def binary_rows(seed, rows, distinct):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    labels[:2] = (0, 1)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0.001, 0.999)
    if distinct:
        scores = np.round(scores * distinct) / distinct
    return labels, scores, rng.integers(0, 4, rows).astype(float) + (np.arange(rows) < 2)


def largest_recall(labels, scores, weights):
    precision, recall, _ = sk.precision_recall_curve(labels, scores, sample_weight=weights)
    # The last point is scikit-learn's artificial (recall 0, precision 1).
    return max([r for p, r in zip(precision[:-1], recall[:-1], strict=True) if p >= 0.5], default=0)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(4, 300),
    distinct=st.sampled_from([0, 2, 5, 20]),
    threshold=st.sampled_from([0.2, 0.5, 0.8]),
    weighted=st.booleans(),
)
def test_binary_metrics_equal_scikit_learn(seed, rows, distinct, threshold, weighted):
    labels, scores, drawn = binary_rows(seed, rows, distinct)
    weights = drawn if weighted else None
    called = (scores >= threshold).astype(int)
    found = Answers.binary(labels, scores, threshold).values(metrics_for(Task.BINARY), weights)
    options = {"sample_weight": weights}
    expected = {
        "accuracy": sk.accuracy_score(labels, called, **options),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called, **options),
        "f1": sk.f1_score(labels, called, zero_division=0, **options),
        "precision": sk.precision_score(labels, called, zero_division=np.nan, **options),
        "recall": sk.recall_score(labels, called, **options),
        "roc_auc": sk.roc_auc_score(labels, scores, **options),
        "average_precision": sk.average_precision_score(labels, scores, **options),
        "log_loss": sk.log_loss(labels, scores, **options),
        "brier": sk.brier_score_loss(labels, scores, **options),
        "recall_at_precision": largest_recall(labels, scores, weights),
    }
    assert set(found) - set(expected) == {"calibration_error"}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(9, 200), weighted=st.booleans())
def test_multiclass_metrics_equal_scikit_learn(seed, rows, weighted):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    labels[:3] = (0, 1, 2)
    scores = np.round(rng.dirichlet([1, 1, 1], rows) + 0.4 * np.eye(3)[labels], 1) + 0.01
    scores /= scores.sum(axis=1, keepdims=True)
    weights = rng.integers(0, 3, rows).astype(float) + (np.arange(rows) < 3) if weighted else None
    called = scores.argmax(axis=1)
    found = Answers.multiclass(labels, scores).values(metrics_for(Task.MULTICLASS), weights)
    kept = np.ones(rows) if weights is None else weights
    expected = {
        "accuracy": sk.accuracy_score(labels, called, sample_weight=weights),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called, sample_weight=weights),
        "f1": sk.f1_score(
            labels[kept > 0], called[kept > 0], average="macro", sample_weight=kept[kept > 0]
        ),
        "roc_auc": np.mean(
            [sk.roc_auc_score(labels == c, scores[:, c], sample_weight=weights) for c in range(3)]
        ),
        "log_loss": sk.log_loss(labels, scores, sample_weight=weights, labels=[0, 1, 2]),
    }
    assert found == pytest.approx(expected, abs=1e-12)
    if weights is None:
        assert found["roc_auc"] == pytest.approx(
            sk.roc_auc_score(labels, scores, multi_class="ovr", average="macro")
        )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(3, 200), weighted=st.booleans())
def test_regression_metrics_equal_scikit_learn(seed, rows, weighted):
    rng = np.random.default_rng(seed)
    labels = rng.normal(10, 3, rows)
    scores = labels + rng.normal(0, 2, rows)
    weights = rng.integers(0, 3, rows).astype(float) + (np.arange(rows) < 2) if weighted else None
    found = Answers.regression(labels, scores).values(metrics_for(Task.REGRESSION), weights)
    expected = {
        "mae": sk.mean_absolute_error(labels, scores, sample_weight=weights),
        "rmse": sk.root_mean_squared_error(labels, scores, sample_weight=weights),
        "r2": sk.r2_score(labels, scores, sample_weight=weights),
    }
    assert found == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(4, 80), distinct=st.sampled_from([0, 4]))
def test_a_weight_counts_as_that_many_copies_of_the_row(seed, rows, distinct):
    labels, scores, weights = binary_rows(seed, rows, distinct)
    names = [n for n in metrics_for(Task.BINARY) if n != "calibration_error"]
    copies = np.repeat(np.arange(rows), weights.astype(int))
    weighted = Answers.binary(labels, scores).values(names, weights)
    copied = Answers.binary(labels[copies], scores[copies]).values(names)
    assert weighted == pytest.approx(copied, abs=1e-12, nan_ok=True)


def test_calibration_error_is_the_mean_gap_over_ten_equal_bins():
    rng = np.random.default_rng(3)
    scores = rng.permutation(np.linspace(0.01, 0.99, 200))
    labels = rng.random(200) < scores**2
    order = np.argsort(scores)
    gaps = [abs(scores[part].mean() - labels[part].mean()) for part in np.split(order, 10)]
    found = Answers.binary(labels, scores).values(["calibration_error"])
    assert found["calibration_error"] == pytest.approx(np.mean(gaps))


def test_equal_scores_share_a_calibration_bin():
    bins = equal_count_bins(np.array([0.1, 0.1, 0.1, 0.1, 0.9, 0.95]), 3)
    assert bins.tolist() == [0, 0, 0, 0, 2, 2]


@pytest.mark.parametrize(
    ("labels", "scores", "undefined"),
    [
        (
            [0, 0, 0],
            [0.2, 0.4, 0.6],
            {"balanced_accuracy", "recall", "roc_auc", "average_precision", "recall_at_precision"},
        ),
        ([1, 1], [0.2, 0.6], {"balanced_accuracy", "roc_auc"}),
        ([0, 1], [0.2, 0.3], {"precision"}),
        (
            [0, 0],
            [0.2, 0.3],
            {
                "balanced_accuracy",
                "recall",
                "roc_auc",
                "precision",
                "f1",
                "average_precision",
                "recall_at_precision",
            },
        ),
        ([], [], set(metrics_for(Task.BINARY))),
        ([0, 1], [0.2, math.nan], set(metrics_for(Task.BINARY))),
        ([0, 1], [math.inf, 0.3], set(metrics_for(Task.BINARY))),
    ],
    ids=["no-positive", "no-negative", "none-called", "nothing", "empty", "nan-score", "inf-score"],
)
def test_what_is_undefined_is_nan_and_nothing_else_is(labels, scores, undefined):
    found = Answers.binary(labels, scores).values(metrics_for(Task.BINARY))
    assert {name for name, value in found.items() if math.isnan(value)} == undefined


def test_r2_of_a_constant_label_is_nan():
    assert math.isnan(Answers.regression([2.0, 2.0], [1.0, 3.0]).values(["r2"])["r2"])


def test_a_class_without_rows_makes_multiclass_roc_auc_undefined():
    found = Answers.multiclass([0, 1, 0], np.full((3, 3), 1 / 3)).values(["roc_auc", "accuracy"])
    assert math.isnan(found["roc_auc"])
    assert found["accuracy"] == pytest.approx(2 / 3)


def test_no_weight_at_all_is_undefined():
    found = Answers.binary([0, 1], [0.1, 0.9]).values(["accuracy"], np.zeros(2))
    assert math.isnan(found["accuracy"])


def test_a_row_on_the_threshold_is_called_positive():
    assert Answers.binary([1], [0.3], threshold=0.3).decisions.tolist() == [1]


def test_the_catalogue_holds_no_metric_that_cannot_be_computed():
    computed = set(Answers.binary([0, 1], [0.1, 0.9]).values(metrics_for(Task.BINARY)))
    computed |= set(Answers.multiclass([0, 1, 2], np.eye(3)).values(metrics_for(Task.MULTICLASS)))
    computed |= set(Answers.regression([1, 2], [1, 3]).values(metrics_for(Task.REGRESSION)))
    assert computed == set(METRICS)
