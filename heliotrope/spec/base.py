"""What all parts of a spec share: frozen, unknown keys refused, durations as people write them."""

import re
import reprlib
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d|w)$")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = timedelta(days=36500)

# Bounded by construction: YAML aliases can make a small file an exponentially large value.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 78


class Part(BaseModel):
    """Base of every block of a spec."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )


def parse_duration(value: object) -> timedelta:
    """Read a duration such as `30d`, `6h`, `15m`, `90s` or `0s`.

    Raises:
        ValueError: when it is anything else, or longer than a hundred years.

    >>> parse_duration("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("be a number and a unit, one of ms s m h d w, such as 30d or 15m")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST.total_seconds():
        raise ValueError("be at most 36500d")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """Write a duration the way `parse_duration` reads it, in the largest whole unit.

    >>> format_duration(timedelta(days=30))
    '30d'
    >>> format_duration(timedelta(minutes=90))
    '90m'
    """
    millis = round(value.total_seconds() * 1000)
    for unit in ("d", "h", "m", "s"):
        size = int(_SECONDS[unit] * 1000)
        if millis % size == 0:
            return f"{millis // size}{unit}"
    return f"{millis}ms"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DURATION.pattern, "examples": ["30d", "15m"]}),
]


def show(value: Any) -> str:
    """A value as an error message quotes it: short, on one line."""
    text = _SHORT.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
