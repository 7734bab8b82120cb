"""The board: what is written by any thread is what a scrape reads."""

import threading

import pytest

from heliotrope.adapters.exposition import exposition
from heliotrope.telemetry.board import Board
from heliotrope.telemetry.controller_metrics import (
    ALARM_ACTIVE,
    CORRECT_PREDICTIONS,
    FEATURE_DRIFT_SCORE,
    TICK_SECONDS,
)

EVERYTHING = (ALARM_ACTIVE, CORRECT_PREDICTIONS, FEATURE_DRIFT_SCORE, TICK_SECONDS)
SEVEN = ("loans", "7", "champion")


@pytest.fixture
def board() -> Board:
    return Board(EVERYTHING)


def test_counters_add_up_from_many_threads(board: Board) -> None:
    def work() -> None:
        for _ in range(500):
            board.add(CORRECT_PREDICTIONS, *SEVEN, by=2)
            board.observe(TICK_SECONDS, 0.02, "truth")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert board.snapshot(CORRECT_PREDICTIONS) == [(SEVEN, 8000)]
    ((labels, buckets, total),) = board.histograms(TICK_SECONDS)
    assert (labels, sum(buckets)) == (("truth",), 4000)
    assert total == pytest.approx(80)


def test_a_total_known_from_elsewhere_is_never_lowered(board: Board) -> None:
    board.raise_to(CORRECT_PREDICTIONS, 10, *SEVEN)
    board.raise_to(CORRECT_PREDICTIONS, 9, *SEVEN)
    assert board.snapshot(CORRECT_PREDICTIONS) == [(SEVEN, 10)]
    board.raise_to(CORRECT_PREDICTIONS, 12, *SEVEN)
    assert board.snapshot(CORRECT_PREDICTIONS) == [(SEVEN, 12)]


def test_a_series_that_is_not_stated_again_is_gone(board: Board) -> None:
    board.replace(FEATURE_DRIFT_SCORE, {("loans", "income"): 0.5, ("loans", "age"): 0.1})
    board.replace(FEATURE_DRIFT_SCORE, {("loans", "age"): 0.2})
    assert board.snapshot(FEATURE_DRIFT_SCORE) == [(("loans", "age"), 0.2)]


def test_one_models_series_are_replaced_and_anothers_stay(board: Board) -> None:
    board.set(FEATURE_DRIFT_SCORE, 0.5, "loans", "income")
    board.set(FEATURE_DRIFT_SCORE, 0.7, "churn", "tenure")
    board.replace_where(FEATURE_DRIFT_SCORE, "loans", {("loans", "age"): 0.2})
    assert dict(board.snapshot(FEATURE_DRIFT_SCORE)) == {
        ("churn", "tenure"): 0.7,
        ("loans", "age"): 0.2,
    }
    with pytest.raises(ValueError, match="must be of 'loans' here"):
        board.replace_where(FEATURE_DRIFT_SCORE, "loans", {("churn", "age"): 0.2})


def test_what_was_handed_over_is_copied(board: Board) -> None:
    given = {("loans", "age"): 0.2}
    board.replace(FEATURE_DRIFT_SCORE, given)
    given[("loans", "income")] = 1.0
    assert board.snapshot(FEATURE_DRIFT_SCORE) == [(("loans", "age"), 0.2)]


@pytest.mark.parametrize("labels", [(), ("loans",), ("loans", "a", "b")])
def test_wrong_labels_are_refused_by_name(board: Board, labels: tuple[str, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"ml_alarm_active must have the labels \('model', 'alarm'"
    ):
        board.set(ALARM_ACTIVE, 1, *labels)
    with pytest.raises(ValueError, match="must have the labels"):
        board.replace(ALARM_ACTIVE, {labels: 1})


def test_a_metric_of_another_process_is_refused(board: Board) -> None:
    from heliotrope.telemetry.collector_metrics import ROWS

    with pytest.raises(KeyError, match="ml_collector_rows_total"):
        board.add(ROWS, "loans", "labels")


def test_a_scrape_reads_values_and_cumulative_buckets(board: Board) -> None:
    board.set(ALARM_ACTIVE, 1, "loans", 'odd "name"\\')
    for seconds in (0.005, 0.02, 1000):
        board.observe(TICK_SECONDS, seconds, "truth")
    text = exposition(board).decode()
    assert 'ml_alarm_active{alarm="odd \\"name\\"\\\\",model="loans"} 1.0\n' in text
    assert 'ml_controller_tick_seconds_bucket{duty="truth",le="0.005"} 1.0\n' in text
    assert 'ml_controller_tick_seconds_bucket{duty="truth",le="300.0"} 2.0\n' in text
    assert 'ml_controller_tick_seconds_bucket{duty="truth",le="+Inf"} 3.0\n' in text
    assert 'ml_controller_tick_seconds_count{duty="truth"} 3.0\n' in text
