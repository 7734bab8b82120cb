"""When a five-field cron line fires: minute, hour, day of month, month, day of week; UTC.

The spec has checked the line: numbers, ranges, lists and steps, Sunday 0 or 7. As in cron(5), where
both days are restricted either of them is enough.
"""

from datetime import datetime, timedelta

_FIRST = (0, 0, 1, 1, 0)
_LAST = (59, 23, 31, 12, 7)
_MOST_DAYS = 366 * 8 + 2
"""29 February is at most eight years away (1896 to 1904)."""


def latest_firing(line: str, now: datetime) -> datetime | None:
    """The newest firing at or before `now`; None for a day that never comes (30 February).

    One who missed several catches up with the newest alone.

    >>> from datetime import UTC
    >>> latest_firing("30 6 * * 1", datetime(2026, 3, 4, 12, tzinfo=UTC)).isoformat()
    '2026-03-02T06:30:00+00:00'
    """
    fields = line.split()
    minutes, hours, days, months, weekdays = (
        _values(text, first, last) for text, first, last in zip(fields, _FIRST, _LAST, strict=True)
    )
    weekdays = {value % 7 for value in weekdays}
    # cron(5): a field that begins with * does not restrict.
    either = not fields[2].startswith("*") and not fields[4].startswith("*")
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(_MOST_DAYS):
        in_month, in_week = day.day in days, day.isoweekday() % 7 in weekdays
        if day.month in months and ((in_month or in_week) if either else (in_month and in_week)):
            for hour in sorted(hours, reverse=True):
                for minute in sorted(minutes, reverse=True):
                    at = day.replace(hour=hour, minute=minute)
                    if at <= now:
                        return at
        day -= timedelta(days=1)
    return None


def with_seconds(line: str) -> str:
    """The same firings as Kubeflow Pipelines writes them: six fields, seconds first.

    Its parser (robfig/cron, version 1) takes no 7 for Sunday, and takes a list that holds a `*`
    anywhere for a field that does not restrict. So days are written such that it and
    `latest_firing` agree.

    >>> with_seconds("0 * * * *")
    '0 0 * * * *'
    >>> with_seconds("30 6 * * 5-7")
    '0 30 6 * * 0,5,6'
    """
    minute, hour, day, month, weekday = line.split()
    days, weekdays = _values(day, 1, 31), {value % 7 for value in _values(weekday, 0, 7)}
    either = not day.startswith("*") and not weekday.startswith("*")
    if either and (len(days) == 31 or len(weekdays) == 7):
        # Either of them is enough, and one always is.
        day = weekday = "*"
    else:
        day, weekday = _days(day, days, 1, 31), _days(weekday, weekdays, 0, 6)
    return " ".join(("0", minute, hour, day, month, weekday))


def _days(text: str, values: set[int], first: int, last: int) -> str:
    star, *_ = text.split(",")
    if not star.startswith("*"):
        return _list(values)
    rest = values - _values(star, first, last)
    return f"{star},{_list(rest)}" if rest else star


def _list(values: set[int]) -> str:
    return ",".join(str(value) for value in sorted(values))


def _values(text: str, first: int, last: int) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        start = first if span == "*" else int(low)
        # `5/15` goes on to the end, as `5` alone does not.
        end = last if span == "*" or (step and not high) else int(high or low)
        values.update(range(start, end + 1, int(step or 1)))
    return values
