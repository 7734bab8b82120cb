"""The split in time: shares, ties, and what is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliotrope.domain.split import check_classes, split_rows
from heliotrope.errors import DataFault
from heliotrope.spec import Split


@given(
    steps=st.lists(st.integers(0, 2), min_size=1, max_size=200),
    holdout=st.floats(0.05, 0.6),
    calibration=st.one_of(st.just(0.0), st.floats(0.01, 0.3)),
)
def test_parts_cover_the_rows_in_order_and_never_divide_a_moment(
    steps: list[int], holdout: float, calibration: float
) -> None:
    times = np.cumsum(np.array(steps))
    wanted = Split(holdout=holdout, calibration=calibration)
    moments = len(np.unique(times))
    needed = 3 if calibration > 0 else 2
    if moments < needed:
        with pytest.raises(DataFault, match=f"at least {needed} different event times"):
            split_rows(len(times), times, wanted)
        return
    parts = split_rows(len(times), times, wanted)
    joined = [*parts.train, *parts.calibration, *parts.holdout]
    assert joined == list(range(len(times)))
    assert len(parts.train) > 0
    assert len(parts.holdout) > 0
    assert (len(parts.calibration) > 0) == (calibration > 0)
    for border in {parts.calibration.start, parts.holdout.start}:
        assert times[border - 1] < times[border]


@pytest.mark.parametrize(
    ("rows", "holdout", "calibration", "borders"),
    [
        (100, 0.2, 0.15, (65, 80)),
        (100, 0.2, 0.0, (80, 80)),
        (3, 0.2, 0.15, (1, 2)),
        (2, 0.5, 0.0, (1, 1)),
    ],
)
def test_without_times_the_shares_are_met_to_the_row(
    rows: int, holdout: float, calibration: float, borders: tuple[int, int]
) -> None:
    parts = split_rows(rows, None, Split(holdout=holdout, calibration=calibration))
    assert (parts.calibration.start, parts.holdout.start) == borders


def test_a_boundary_inside_a_tie_moves_to_the_nearer_end() -> None:
    times = np.array([0] * 50 + [1] * 22 + [2] * 28)
    parts = split_rows(100, times, Split(holdout=0.3, calibration=0.0))
    assert parts.holdout.start == 72
    months = np.array(["2018-01"] * 33 + ["2018-02"] * 34 + ["2018-03"] * 33, "datetime64[M]")
    parts = split_rows(100, months, Split(holdout=0.2, calibration=0.15))
    assert (len(parts.train), len(parts.calibration), len(parts.holdout)) == (33, 34, 33)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_few_rows_are_a_data_fault(rows: int) -> None:
    with pytest.raises(DataFault, match=rf"at least 3 rows.*Got {rows} in {rows} rows"):
        split_rows(rows, None, Split())


def test_times_that_fall_are_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match="must not fall"):
        split_rows(3, np.array([1, 0, 2]), Split())


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ({"a": 0, "b": 0}, {}, "must not be empty"),
        ({"a": 5, "b": 0}, {}, "Got 5 rows, all of class 'a'"),
        ({"a": 5, "b": 0}, {"timed": False}, "name one, or shuffle"),
        ({"a": 5, "b": 1, "c": 0}, {"all_of": ("a", "b", "c")}, "none of 'c'"),
    ],
)
def test_a_part_that_cannot_teach_is_refused(
    counts: dict[str, int], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataFault, match=message):
        check_classes("train", counts, **options)


def test_a_part_with_every_class_is_taken() -> None:
    check_classes("holdout", {"a": 1, "b": 1}, all_of=("a", "b"))
