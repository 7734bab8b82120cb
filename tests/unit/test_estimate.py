"""What scores promise comes true while they are calibrated, and is called out when it does not."""

import math

import numpy as np
import pytest

from heliotrope.domain.estimate import (
    RUN_LENGTH,
    Contradiction,
    ScoredBins,
    log_evidence,
    promised,
    sensitivities,
)
from heliotrope.domain.metrics import Answers

NAMES = ["accuracy", "roc_auc", "average_precision", "log_loss", "brier", "recall"]
ROWS = 2000


def bins_of(score: np.ndarray) -> ScoredBins:
    return ScoredBins(score, (score >= 0.5).astype(np.int64), np.ones(len(score)))


def test_promises_come_true_for_calibrated_scores() -> None:
    rng = np.random.default_rng(1)
    score = rng.beta(1, 4, 60_000)
    label = (rng.random(60_000) < score).astype(int)
    found, true = promised(bins_of(score), NAMES), Answers.binary(label, score).values(NAMES)
    for name in NAMES:
        assert found[name] == pytest.approx(true[name], abs=0.012), name


def test_the_calibration_error_is_not_promised() -> None:
    assert promised(bins_of(np.array([0.2, 0.9])), ["calibration_error", "accuracy"]) == {
        "accuracy": pytest.approx(0.85)
    }


def test_accuracy_cannot_move_by_more_than_the_calibration_error() -> None:
    rng = np.random.default_rng(2)
    moves = sensitivities(bins_of(rng.beta(1, 4, 4000)), NAMES)
    assert 0 < moves["accuracy"] <= 1 + 1e-9
    assert all(move > 0 for move in moves.values())


@pytest.mark.parametrize("shift", [-0.4, 0.4])
def test_the_error_bound_covers_scores_that_are_off_by_a_known_amount(shift: float) -> None:
    rng = np.random.default_rng(3)
    score = rng.beta(2, 5, 40_000)
    true_share = 1 / (1 + np.exp(-(np.log(score / (1 - score)) + shift)))
    off = float(np.abs(true_share - score).mean())
    label = (rng.random(40_000) < true_share).astype(int)
    bins = bins_of(score)
    found, moves = promised(bins, NAMES), sensitivities(bins, NAMES)
    true = Answers.binary(label, score).values(NAMES)
    for name in NAMES:
        assert abs(found[name] - true[name]) <= 1.25 * moves[name] * off + 0.012, name


def window(rng: np.random.Generator, tilt: float = 1.0, shift: float = 0.0) -> tuple[float, float]:
    """Evidence of one window and the miss of its accuracy."""
    score = rng.beta(1, 4, ROWS)
    logit = np.log(score / (1 - score))
    share = 1 / (1 + np.exp(-(tilt * logit + shift)))
    positive = (rng.random(ROWS) < share).astype(float)
    right = (score >= 0.5) == (positive == 1)
    claimed = promised(bins_of(score), ["accuracy"])["accuracy"]
    return log_evidence(score, positive, 1 - positive), claimed - float(right.mean())


def test_evidence_against_calibrated_scores_is_worth_at_most_one_on_average() -> None:
    """An e-value: checked by its mean over 2,000 draws, and Markov's bound at 20."""
    rng = np.random.default_rng(4)
    score = rng.beta(1, 4, 60)
    draws = (rng.random((2000, 60)) < score).astype(float)
    values = np.array([math.exp(log_evidence(score, row, 1 - row)) for row in draws])
    assert values.mean() < 1.25
    assert (values >= 20).mean() <= 1 / 20


def test_calibrated_windows_are_hardly_ever_marked() -> None:
    rng = np.random.default_rng(5)
    state, marked = Contradiction(), 0
    for _ in range(300):
        state = state.after(*window(rng))
        marked += state.marked
    assert marked == 0


@pytest.mark.parametrize(("tilt", "shift"), [(0.0, -1.4), (1.0, 1.0), (1.0, -1.0), (-1.0, 0.0)])
def test_a_changed_relation_is_marked_within_two_windows_after_a_long_good_time(
    tilt: float, shift: float
) -> None:
    rng = np.random.default_rng(6)
    state = Contradiction()
    for _ in range(50):
        state = state.after(*window(rng))
    assert not state.marked
    for _ in range(2):
        state = state.after(*window(rng, tilt, shift))
    assert state.marked


def test_a_mark_goes_when_the_scores_are_right_again() -> None:
    rng = np.random.default_rng(7)
    state = Contradiction()
    for _ in range(3):
        state = state.after(*window(rng, 1.0, 1.5))
    assert state.marked
    count = 0
    while state.marked and count < 20:
        state = state.after(*window(rng))
        count += 1
    assert count <= 5


def test_certain_but_small_is_no_contradiction() -> None:
    state = Contradiction().after(2 * math.log(RUN_LENGTH), 0.004)
    assert not state.marked
    assert state.after(0.0, 0.2).marked
    assert Contradiction().after(2 * math.log(RUN_LENGTH), math.nan).marked


def test_no_label_is_no_evidence() -> None:
    none = np.zeros(3)
    assert log_evidence(np.array([0.1, 0.2, 0.9]), none, none) == 0.0
