"""When a cron line fires, beside a reading of every minute."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.domain.cron import latest_firing, with_seconds


@pytest.mark.parametrize(
    ("line", "now", "fired"),
    [
        ("0 0 * * *", "2026-03-02T00:00", "2026-03-02T00:00"),
        ("0 0 * * *", "2026-03-01T23:59", "2026-03-01T00:00"),
        ("*/15 * * * *", "2026-03-02T10:44", "2026-03-02T10:30"),
        ("5/20 9-17 * * *", "2026-03-02T08:00", "2026-03-01T17:45"),
        ("0 6 * * 7", "2026-03-04T00:00", "2026-03-01T06:00"),
        ("0 6 * * 0", "2026-03-04T00:00", "2026-03-01T06:00"),
        ("0 6 13 * 5", "2026-03-14T00:00", "2026-03-13T06:00"),
        ("0 6 1 * 5", "2026-03-14T00:00", "2026-03-13T06:00"),
        ("0 6 */2 * 5", "2026-03-14T00:00", "2026-03-13T06:00"),
        ("0 0 29 2 *", "2026-01-01T00:00", "2024-02-29T00:00"),
        ("0 0 31 12 *", "2026-12-30T00:00", "2025-12-31T00:00"),
        ("1,3 2,4 * 1-3,6 *", "2026-05-02T00:00", "2026-03-31T04:03"),
    ],
)
def test_the_newest_firing_is_found(line: str, now: str, fired: str) -> None:
    found = latest_firing(line, datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(fired).replace(tzinfo=UTC)


def test_a_day_that_never_comes_never_fires() -> None:
    assert latest_firing("0 0 30 2 *", datetime(2026, 3, 1, tzinfo=UTC)) is None


FIELDS = st.tuples(
    st.sampled_from(["*", "0", "*/20", "7,31", "10-12"]),
    st.sampled_from(["*", "0", "23", "*/6", "8-10"]),
    st.sampled_from(["*", "1", "15,31", "*/10"]),
    st.sampled_from(["*", "3", "1-4"]),
    st.sampled_from(["*", "0", "7", "1-5", "3"]),
)


@given(FIELDS, st.integers(0, 200_000))
@settings(max_examples=60, deadline=None)
def test_nothing_fires_between_the_newest_firing_and_now(
    fields: tuple[str, ...], minutes: int
) -> None:
    line, now = " ".join(fields), datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    found = latest_firing(line, now + timedelta(seconds=30))
    assert found is not None
    # A firing is the newest as of itself, and the one before it lies strictly before.
    assert latest_firing(line, found) == found
    before = latest_firing(line, found - timedelta(microseconds=1))
    assert before is not None
    assert before < found <= now


# The same line as Kubeflow Pipelines reads it


def robfig(line: str, at: datetime) -> bool:
    """Whether a line fires at a time, as robfig/cron 1.2 reads it: seconds first, Sunday is 0.

    Two fields of days are an `or`, unless a `*` is anywhere in one of them.
    """
    bounds = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    now = (at.second, at.minute, at.hour, at.day, at.month, at.isoweekday() % 7)
    fields = line.split()
    assert len(fields) == len(bounds)
    hits, stars = [], []
    for text, (low, high), value in zip(fields, bounds, now, strict=True):
        values: set[int] = set()
        star = False
        for part in text.split(","):
            span, _, step = part.partition("/")
            first, _, last = span.partition("-")
            start = low if first == "*" else int(first)
            end = high if first == "*" or (step and not last) else int(last or first)
            assert low <= start <= end <= high, f"robfig refuses {part}"
            star = star or first == "*"
            values.update(range(start, end + 1, int(step or 1)))
        hits.append(value in values)
        stars.append(star)
    both = hits[3] and hits[5]
    days = both if stars[3] or stars[5] else hits[3] or hits[5]
    return all(hits[:3]) and hits[4] and days


@pytest.mark.parametrize(
    ("line", "translated"),
    [
        ("0 * * * *", "0 0 * * * *"),
        ("30 6 * * 1", "0 30 6 * * 1"),
        ("0 0 * * 7", "0 0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 0 * * 0,5,6"),
        ("0 0 1 * 1,3,7", "0 0 0 1 * 0,1,3"),
        ("0 0 1-31 * 1", "0 0 0 * * *"),
        ("0 0 13 * 0-7", "0 0 0 * * *"),
        ("0 0 */2 * 7", "0 0 0 */2 * 0"),
        ("5/20 9-17 * 1-6/2 *", "0 5/20 9-17 * 1-6/2 *"),
    ],
)
def test_a_line_is_translated_to_seconds_first(line: str, translated: str) -> None:
    assert with_seconds(line) == translated


def part(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}")
    step = st.integers(1, high)
    stepped = st.tuples(st.one_of(st.just("*"), number.map(str), span), step)
    return st.one_of(
        st.just("*"), number.map(str), span, stepped.map(lambda two: f"{two[0]}/{two[1]}")
    )


def field(low: int, high: int) -> st.SearchStrategy[str]:
    return st.lists(part(low, high), min_size=1, max_size=3).map(",".join)


LINES = st.tuples(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).map(" ".join)


@given(LINES, st.integers(0, 3 * 366 * 24 * 60))
@settings(max_examples=300, deadline=None)
def test_a_translated_line_fires_in_the_same_minutes_and_once_in_each(
    line: str, minutes: int
) -> None:
    at = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    # Also where it does fire: a minute taken at random hardly ever does.
    for moment in (at, latest_firing(line, at)):
        if moment is not None:
            fires = latest_firing(line, moment) == moment
            assert robfig(with_seconds(line), moment) is fires
            assert not robfig(with_seconds(line), moment + timedelta(seconds=1))
