"""Permutation importance of models whose truth is known."""

import numpy as np
import pytest

from heliotrope.domain.importance import loss, permutation_importance, sample_rows
from heliotrope.vocabulary import Task


def test_shares_are_of_what_the_model_uses() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 3)).astype(np.float32)
    labels = 3.0 * features[:, 0] + features[:, 2]

    def score(matrix: np.ndarray) -> np.ndarray:
        return (3.0 * matrix[:, 0] + matrix[:, 2]).astype(np.float64)

    shares = permutation_importance(score, features, labels, Task.REGRESSION, "abc", 1)
    assert list(shares) == ["a", "c", "b"]
    # Shuffling adds twice the variance the feature explains: 9 against 1.
    assert shares["a"] == pytest.approx(0.9, abs=0.02)
    assert shares["b"] == 0
    assert sum(shares.values()) == pytest.approx(1)
    again = permutation_importance(score, features, labels, Task.REGRESSION, "abc", 1)
    assert shares == again


def test_a_model_that_uses_nothing_has_no_shares() -> None:
    features = np.ones((50, 2), dtype=np.float32)
    labels = np.arange(50) % 2
    constant = permutation_importance(
        lambda m: np.full(len(m), 0.5), features, labels, Task.BINARY, "ab", 1
    )
    assert constant == {}


def test_the_matrix_given_is_left_as_it_was() -> None:
    features = np.random.default_rng(2).normal(size=(100, 2)).astype(np.float32)
    before = features.copy()
    permutation_importance(
        lambda m: m[:, 0].astype(np.float64), features, before[:, 0], Task.REGRESSION, "ab", 1
    )
    assert np.array_equal(features, before)


def test_losses_are_the_textbook_ones() -> None:
    assert loss(Task.REGRESSION, np.array([1.0, 3.0]), np.array([1.0, 1.0])) == 2.0
    assert loss(Task.BINARY, np.array([0.25, 0.5]), np.array([0, 1])) == pytest.approx(
        -(np.log(0.75) + np.log(0.5)) / 2
    )
    scores = np.array([[0.2, 0.3, 0.5]])
    assert loss(Task.MULTICLASS, scores, np.array([2])) == pytest.approx(-np.log(0.5))


def test_a_sample_is_of_different_rows_in_order() -> None:
    picked = sample_rows(10_000, seed=3, at_most=500)
    assert len(picked) == 500
    assert np.all(np.diff(picked) > 0)
    assert np.array_equal(sample_rows(5, seed=3, at_most=500), np.arange(5))
