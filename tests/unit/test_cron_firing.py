"""When a cron line fires, beside a reading of every minute."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.domain.cron import latest_firing


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
