"""The schedule of a replay: order, no loss, nothing twice, no label before its time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliotrope.domain.replay import AsTimed, DueRow, Evenly, ReplayRow, ReplaySchedule

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
BEGIN = datetime(2026, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def rows_at(seconds: list[int], unlabelled: frozenset[int] = frozenset()) -> list[ReplayRow]:
    return [
        ReplayRow(n, FIRST + s * SECOND, {"x": n}, None if n in unlabelled else n % 2 == 0)
        for n, s in enumerate(sorted(seconds))
    ]


@given(
    seconds=st.lists(st.integers(0, 500), max_size=60),
    steps=st.lists(st.integers(1, 400), min_size=1, max_size=12),
    most=st.integers(1, 7),
    delay=st.integers(0, 300),
    latency=st.integers(0, 20),
    unlabelled=st.frozensets(st.integers(0, 59)),
)
def test_everything_comes_once_in_order_and_no_label_before_its_time(
    seconds: list[int],
    steps: list[int],
    most: int,
    delay: int,
    latency: int,
    unlabelled: frozenset[int],
) -> None:
    rows = rows_at(seconds, unlabelled)
    pace = AsTimed(FIRST, BEGIN)
    schedule = ReplaySchedule(iter(rows), pace, delay * SECOND)
    now, sent, labels = BEGIN, [], []
    open_rows: list[DueRow] = []
    # Long enough for the last row, its answer and its label, at the smallest handful.
    for step in [*steps, *[900] * 140]:
        now += step * SECOND
        for label in schedule.due_labels(now, most):
            assert label.moment <= now
            labels.append((label, now))
        # Answers come a while after their rows, and not in their order.
        for due in reversed(open_rows):
            schedule.answered(due, f"id-{due.row.number}", now + latency * SECOND)
        open_rows = schedule.due_rows(now, most)
        assert all(due.moment <= now for due in open_rows)
        sent += open_rows
    assert [due.row for due in sent] == rows
    assert not schedule.rows_left
    assert schedule.labels_left == 0
    due_at = {due.row.number: due.moment for due in sent}
    wanted = {row.number for row in rows if row.label is not None}
    assert sorted(label.number for label, _ in labels) == sorted(wanted)
    for label, handed_out in labels:
        assert label.key == f"id-{label.number}"
        assert label.label == (label.number % 2 == 0)
        assert due_at[label.number] + delay * SECOND <= label.moment <= handed_out


@given(share=st.sampled_from([0.0, 0.25, 1.0]), seed=st.integers(0, 5))
def test_the_same_seed_leaves_out_the_same_labels(share: float, seed: int) -> None:
    rows = rows_at(list(range(400)))

    def labelled() -> list[int]:
        schedule = ReplaySchedule(iter(rows), Evenly(BEGIN, SECOND), SECOND, share, seed)
        for due in schedule.due_rows(BEGIN + 400 * SECOND, 400):
            schedule.answered(due, "k", BEGIN)
        return [label.number for label in schedule.every_label()]

    chosen = labelled()
    assert chosen == labelled()
    assert abs(len(chosen) - 400 * share) <= 45


def test_pace_follows_event_times_or_ignores_them() -> None:
    rows = rows_at([0, 3600, 3660])
    timed, evenly = AsTimed(FIRST, BEGIN, speed=60.0), Evenly(BEGIN, 2 * SECOND)
    assert [timed.moment(r) - BEGIN for r in rows] == [0 * SECOND, 60 * SECOND,
                                                                    61 * SECOND]  # fmt: skip
    assert [evenly.moment(r) - BEGIN for r in rows] == [n * 2 * SECOND for n in
                                                                     range(3)]  # fmt: skip


def test_next_moments_say_how_long_there_is_to_wait() -> None:
    schedule = ReplaySchedule(iter(rows_at([5, 9])), AsTimed(FIRST, BEGIN), 100 * SECOND)
    assert schedule.next_row_at() == BEGIN + 5 * SECOND
    assert schedule.next_label_at() is None
    (due,) = schedule.due_rows(BEGIN + 5 * SECOND, 10)
    # An answer that came late moves nothing as long as the label's delay is longer.
    assert schedule.answered(due, "k", BEGIN + 50 * SECOND)
    assert schedule.next_row_at() == BEGIN + 9 * SECOND
    assert schedule.next_label_at() == BEGIN + 105 * SECOND


def test_a_label_is_never_of_a_time_before_its_answer() -> None:
    schedule = ReplaySchedule(iter(rows_at([0])), AsTimed(FIRST, BEGIN), timedelta())
    (due,) = schedule.due_rows(BEGIN, 1)
    schedule.answered(due, "k", BEGIN + 3 * SECOND)
    assert schedule.due_labels(BEGIN + 2 * SECOND, 1) == []
    assert [label.moment for label in schedule.every_label()] == [BEGIN + 3 * SECOND]


def test_rows_out_of_order_are_refused() -> None:
    rows = list(reversed(rows_at([0, 5])))
    schedule = ReplaySchedule(iter(rows), AsTimed(FIRST, BEGIN), SECOND)
    with pytest.raises(ValueError, match="in the order of their times"):
        schedule.due_rows(BEGIN + 10 * SECOND, 10)
