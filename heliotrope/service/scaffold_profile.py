"""What a table's columns hold, asked in a few queries: the facts a spec is inferred from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from heliotrope.domain.casting import MISSING_TEXT

MOST_CATEGORIES = 50
"""A text column with more different values is not taken for a category."""
_BOOLEAN_WORDS = ("true", "false", "yes", "no", "t", "f", "y", "n")
_EXACT = 2.0**53
_ONE_QUERY = 40
"""Columns asked at once; a query over a thousand columns is slow to plan."""


@dataclass(frozen=True)
class ColumnProfile:
    """The facts of one column. Texts that mean a missing value count as missing."""

    name: str
    kind: str
    """text, number, boolean, time or other, as the source holds it."""
    rows: int
    present: int
    """Values that are there."""
    distinct: int
    """Different values that are there."""
    numbers: int = 0
    """Values that are a finite number, or text of one."""
    whole: int = 0
    """Of these, whole ones."""
    infinite: int = 0
    """Infinite numbers."""
    low: float = 0.0
    high: float = 0.0
    """Smallest and largest finite number."""
    booleans: int = 0
    """Texts that say true or false."""
    times: int = 0
    """Times, dates, or ISO 8601 texts of them."""
    odd: str = ""
    """One text that is no number, where there is one."""
    latest: datetime | None = None
    """The latest time."""
    words: tuple[str, ...] = ()
    """The different values as text, most frequent first, where they are few."""
    counts: tuple[int, ...] = ()
    """Rows of each word."""

    @property
    def numeric(self) -> bool:
        """Whether every value is a number, and not every one is infinite."""
        return self.numbers > 0 and self.numbers + self.infinite == self.present

    @property
    def boolean(self) -> bool:
        """Whether every value says true or false."""
        return self.present > 0 and self.booleans == self.present

    @property
    def time(self) -> bool:
        """Whether every value is a time."""
        return self.present > 0 and self.times == self.present and self.kind in ("time", "text")

    @property
    def integer(self) -> bool:
        """Whether every value is a whole number."""
        return self.numeric and self.whole == self.present


def profile_table(table: Any) -> list[ColumnProfile]:
    """Profile every column of an Ibis table, in its order.

    Args:
        table: with at least one row; columns may be of any type.
    """
    schema = table.schema()
    found: dict[str, ColumnProfile] = {}
    for names in _groups(list(schema.names)):
        aggregates = {
            f"{position}_{fact}": expression
            for position, name in enumerate(names)
            for fact, expression in _facts(table[name], _kind(schema[name])).items()
        }
        answer = table.aggregate(rows=table.count(), **aggregates).to_pyarrow().to_pylist()[0]
        for position, name in enumerate(names):
            head = f"{position}_"
            facts = {k[len(head) :]: v for k, v in answer.items() if k.startswith(head)}
            found[name] = _profile(name, _kind(schema[name]), answer["rows"], facts)
    return [_with_words(table, found[name]) for name in schema.names]


def present(column: Any) -> Any:
    """Ibis boolean: a value is there."""
    kind = column.type()
    if kind.is_string():
        return column.notnull() & ~column.strip().isin(MISSING_TEXT)
    if kind.is_floating():
        return column.notnull() & ~column.isnan()
    return column.notnull()


def _groups(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _ONE_QUERY):
        yield names[start : start + _ONE_QUERY]


def _kind(kind: Any) -> str:
    if kind.is_string():
        return "text"
    if kind.is_numeric():
        return "number"
    if kind.is_boolean():
        return "boolean"
    return "time" if kind.is_timestamp() or kind.is_date() else "other"


def _facts(column: Any, kind: str) -> dict[str, Any]:
    there = present(column)
    if kind == "other":
        return {"present": there.sum()}
    facts = {"present": there.sum(), "distinct": column.nunique(where=there)}
    if kind == "time":
        return facts | {"times": there.sum(), "latest": column.max(where=there)}
    if kind == "boolean":
        return facts | {"booleans": there.sum()}
    # The text is trimmed as training trims it.
    text = column.strip() if kind == "text" else None
    number = text.try_cast("float64") if text is not None else column.cast("float64")
    real = there & number.notnull() & ~number.isnan()
    finite = real & ~number.isinf()
    facts |= {
        "numbers": finite.sum(),
        "infinite": (real & number.isinf()).sum(),
        "whole": _whole(column, number, finite).sum(),
        "low": number.min(where=finite),
        "high": number.max(where=finite),
    }
    if text is None:
        return facts
    moment = text.try_cast("timestamp('UTC', 6)")
    return facts | {
        "booleans": (there & text.lower().isin(_BOOLEAN_WORDS)).sum(),
        "times": (there & moment.notnull() & number.isnull()).sum(),
        "latest": moment.max(where=there & number.isnull()),
        "odd": text.min(where=there & number.isnull()),
    }


def _whole(column: Any, number: Any, finite: Any) -> Any:
    import ibis

    if column.type().is_integer():
        return finite
    # Ibis rounds through int64 on DuckDB, which refuses what does not fit.
    safe = (finite & (number.abs() <= _EXACT)).ifelse(number, ibis.null("float64"))
    return (safe == safe.round()).fill_null(False)


def _profile(name: str, kind: str, rows: int, facts: dict[str, Any]) -> ColumnProfile:
    given = {key: value for key, value in facts.items() if value is not None}
    given.setdefault("present", 0)
    given.setdefault("distinct", 0)
    latest = given.pop("latest", None)
    return ColumnProfile(
        name=name,
        kind=kind,
        rows=rows,
        latest=latest if isinstance(latest, datetime) else None,
        **given,
    )


def _with_words(table: Any, profile: ColumnProfile) -> ColumnProfile:
    if profile.kind in ("time", "other") or not 0 < profile.distinct <= MOST_CATEGORIES:
        return profile
    column = table[profile.name]
    counted = (
        table.filter(present(column))
        .group_by(word=column.cast("string"))
        .aggregate(count=lambda t: t.count())
        .to_pyarrow()
        .to_pylist()
    )
    ordered = sorted(counted, key=lambda row: (-row["count"], row["word"]))
    return replace(
        profile,
        words=tuple(row["word"] for row in ordered),
        counts=tuple(row["count"] for row in ordered),
    )
