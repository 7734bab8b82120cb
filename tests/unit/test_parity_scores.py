"""Comparing served with trained scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from heliotrope.domain.parity import compare_scores
from heliotrope.errors import ParityError
from heliotrope.vocabulary import Task


@given(arrays(np.float64, 20, elements=st.floats(0, 1)), st.floats(0.01, 0.99))
def test_rounding_to_float32_passes_whatever_the_threshold(
    scores: np.ndarray, threshold: float
) -> None:
    report = compare_scores(scores, scores.astype(np.float32), Task.BINARY, threshold)
    assert report.require() is report


@given(st.integers(0, 19), st.floats(2e-5, 0.4))
def test_the_worst_row_is_named(row: int, by: float) -> None:
    trained = np.linspace(0.01, 0.3, 20)
    served = trained.copy()
    served[row] += by
    report = compare_scores(trained, served, Task.BINARY, 0.9)
    assert report.worst_row == row
    assert report.max_difference == pytest.approx(by)
    with pytest.raises(ParityError, match=f"in row {row};"):
        report.require()


@pytest.mark.parametrize(
    ("trained", "served", "flips", "ties", "passed"),
    [
        (0.5, 0.5, 0, 0, True),
        (0.500005, 0.499999, 1, 0, False),
        (0.5000005, 0.4999999, 0, 1, True),
        (0.4999999, 0.5000001, 0, 1, True),
        (0.7, 0.700004, 0, 0, True),
    ],
)
def test_a_change_of_class_fails_unless_the_trained_score_is_a_tie(
    trained: float, served: float, flips: int, ties: int, passed: bool
) -> None:
    report = compare_scores(np.array([trained]), np.array([served]), Task.BINARY)
    assert (report.flips, report.ties, report.passed) == (flips, ties, passed)


def test_multiclass_flips_are_of_the_likeliest_class() -> None:
    trained = np.array([[0.3, 0.35, 0.35 - 1e-7], [0.2, 0.400004, 0.399996]])
    served = np.array([[0.3, 0.35 - 1e-7, 0.35], [0.2, 0.399999, 0.400001]])
    report = compare_scores(trained, served, Task.MULTICLASS)
    assert (report.flips, report.first_flip, report.ties) == (1, 1, 1)
    with pytest.raises(ParityError, match="differs first in row 1"):
        report.require()


def test_regression_is_measured_against_the_scale_of_the_scores() -> None:
    trained = np.array([250_000.0, 3.0])
    assert compare_scores(trained, trained + 0.5, Task.REGRESSION).passed
    assert not compare_scores(trained, trained + 3.0, Task.REGRESSION).passed
    assert not compare_scores(trained / 1e6, trained / 1e6 + 1e-4, Task.REGRESSION).passed


@pytest.mark.parametrize("side", [0, 1])
def test_nan_never_passes(side: int) -> None:
    both = [np.array([0.1, 0.2]), np.array([0.1, 0.2])]
    both[side][1] = np.nan
    report = compare_scores(both[0], both[1], Task.BINARY)
    assert not report.passed
    assert report.worst_row == 1


def test_equal_infinities_do_not_differ() -> None:
    trained = np.array([np.inf, 1.0])
    assert compare_scores(trained, trained, Task.BINARY).max_difference == 0


def test_no_rows_show_nothing() -> None:
    with pytest.raises(ParityError, match="at least one row"):
        compare_scores(np.empty(0), np.empty(0), Task.BINARY).require()


def test_shapes_must_agree() -> None:
    with pytest.raises(ParityError, match=r"shape \(2,\). Got \(2, 1\)"):
        compare_scores(np.zeros(2), np.zeros((2, 1)), Task.BINARY)
