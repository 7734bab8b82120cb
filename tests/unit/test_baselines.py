"""The trivial answers are fitted on the past alone and never see a label before it is final."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.domain.baselines import class_shares, last_known, majority, persistence
from heliotrope.vocabulary import Task

START = np.datetime64("2018-01-01", "us")


def hours(*values):
    return START + np.array(values, dtype="timedelta64[h]")


def test_the_majority_is_that_of_the_history_and_not_of_the_holdout():
    answers = majority(Task.BINARY, np.array([0, 0, 0, 1]), np.array([1, 1, 1]), 2)
    assert answers.decisions.tolist() == [0, 0, 0]
    assert answers.scores.tolist() == pytest.approx([2 / 6] * 3)
    assert answers.values(["accuracy", "roc_auc"], None)["accuracy"] == 0


def test_a_constant_has_an_area_of_one_half():
    answers = majority(Task.BINARY, np.array([0, 1]), np.array([0, 1, 0]), 2)
    assert answers.values(["roc_auc"])["roc_auc"] == 0.5


def test_where_precision_decides_the_constant_calls_everything_positive():
    answers = majority(Task.BINARY, np.array([0, 0, 1]), np.array([0, 0, 0, 1]), 2, True)
    assert answers.values(["precision"])["precision"] == 0.25


def test_the_majority_of_a_regression_is_the_mean_of_the_history():
    answers = majority(Task.REGRESSION, np.array([1.0, 3.0]), np.array([5.0, 2.0]), 0)
    assert answers.scores.tolist() == [2.0, 2.0]


def test_a_class_never_seen_is_not_impossible():
    assert class_shares(np.array([0, 0, 1]), 3).tolist() == pytest.approx([3 / 6, 2 / 6, 1 / 6])


@pytest.mark.parametrize(
    ("delay", "expected"),
    [(0, [-1, 0, 0, 2, 3]), (1, [-1, -1, -1, 0, 3]), (24, [-1] * 5)],
)
def test_only_labels_final_before_a_rows_time_are_known(delay, expected):
    times = hours(0, 1, 1, 2, 9)
    assert last_known(times, timedelta(hours=delay), times).tolist() == expected


def test_times_that_fall_are_refused():
    with pytest.raises(ValueError, match="must rise"):
        last_known(hours(2, 1), timedelta(0), hours(3))


@settings(max_examples=100, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 5), min_size=2, max_size=40),
    delay=st.integers(0, 12),
    seed=st.integers(0, 10**6),
)
def test_persistence_depends_on_no_label_that_was_not_final(gaps, delay, seed):
    times = hours(*np.cumsum(gaps))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, len(times))
    split = max(1, len(times) // 2)
    row = int(rng.integers(split, len(times)))

    def call(values):
        return persistence(
            Task.BINARY,
            (values[:split], times[:split]),
            (values[split:], times[split:]),
            timedelta(hours=delay),
            2,
        )

    # The labels of the holdout that are not final yet at the row's time, turned over.
    final = times + np.timedelta64(delay, "h") < times[row]
    later = ~final & (np.arange(len(times)) >= split)
    changed = np.where(later, 1 - labels, labels)
    first, second = call(labels), call(changed)
    assert first.decisions[row - split] == second.decisions[row - split]
    assert first.scores[row - split] == second.scores[row - split]


def test_persistence_calls_the_newest_final_label():
    answers = persistence(
        Task.BINARY,
        (np.array([0, 1]), hours(0, 1)),
        (np.array([0, 1, 1]), hours(2, 3, 4)),
        timedelta(hours=1),
        2,
    )
    # At hour 2 the label of hour 0 is final, at 3 that of 1, at 4 that of 2.
    assert answers.decisions.tolist() == [0, 1, 0]


def test_persistence_of_a_number_is_the_last_value_or_the_mean():
    answers = persistence(
        Task.REGRESSION,
        (np.array([2.0, 4.0]), hours(0, 1)),
        (np.array([9.0, 5.0]), hours(2, 30)),
        timedelta(hours=20),
        0,
    )
    assert answers.scores.tolist() == [3.0, 9.0]


def test_a_sticky_stream_is_predicted_well_by_its_last_label():
    rng = np.random.default_rng(2)
    labels = np.cumsum(rng.random(4000) < 0.05) % 3
    times = hours(*range(4000))
    answers = persistence(
        Task.MULTICLASS,
        (labels[:2000], times[:2000]),
        (labels[2000:], times[2000:]),
        timedelta(0),
        3,
    )
    found = answers.values(["accuracy", "log_loss"])
    assert found["accuracy"] == pytest.approx(0.95, abs=0.02)
    assert found["log_loss"] < 0.3
