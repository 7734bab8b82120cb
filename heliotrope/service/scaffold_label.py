"""Which column is the label, the key and the time of a table that nobody has described."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heliotrope.errors import UsageError
from heliotrope.service.scaffold_profile import ColumnProfile
from heliotrope.vocabulary import Task

_LABELS = (
    *("label", "target", "y", "class", "outcome", "default", "defaulted", "bad", "churn"),
    *("churned", "fraud", "is_fraud", "survived", "response", "converted", "clicked"),
    *("cancelled", "canceled", "returned", "species", "price"),
)
_POSITIVES = (
    *("yes", "y", "true", "t", "1", "positive", "bad", "default", "defaulted", "fraud", "churned"),
)
_TIMES = ("event_time", "timestamp", "time", "datetime", "created_at", "issued_at", "date")
_KEY = re.compile(r"(^|_)(id|key|uuid|guid)$|^rownames$", re.IGNORECASE)
MOST_CLASSES = 20
_INTEGER_CLASSES = 10


@dataclass(frozen=True)
class Hints:
    """What a person said on the command line."""

    label: str | None = None
    positive: str | None = None
    key: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class Roles:
    """What was settled, and how."""

    task: Task
    label: ColumnProfile
    label_yaml: Mapping[str, Any]
    """The spec's label block."""
    rarest: int
    """Rows of the rarest class; all rows for a regression."""
    key: str | None
    time: str | None
    notes: Sequence[str] = field(default_factory=tuple)
    """What was guessed and why, a sentence each."""


def settle_roles(profiles: Sequence[ColumnProfile], hints: Hints) -> Roles:
    """Take the hints and guess the rest.

    Raises:
        UsageError: a hint names no column or one that cannot be it, or no label can be guessed.
    """
    columns = {profile.name: profile for profile in profiles}
    notes: list[str] = []
    time = _time(columns, hints, notes)
    key = _key(columns, hints, notes)
    label = _label(columns, hints, {key, time}, notes)
    task, block, rarest = _task(label, hints, notes)
    return Roles(task, label, block, rarest, key, time, tuple(notes))


def _named(columns: Mapping[str, ColumnProfile], option: str, name: str) -> ColumnProfile:
    if name not in columns:
        listed = ", ".join(columns)
        raise UsageError(f"--{option} must name a column, one of {listed}. Got {name}.")
    return columns[name]


def _time(columns: Mapping[str, ColumnProfile], hints: Hints, notes: list[str]) -> str | None:
    if hints.time is not None:
        column = _named(columns, "time", hints.time)
        if not column.time or column.present < column.rows:
            raise UsageError(
                f"--time must name a column with a time in every row, such as 2024-03-01 or "
                f"2024-03-01T12:00:00Z. Got {hints.time}: {column.times:,} of {column.rows:,}."
            )
        return hints.time
    candidates = [c.name for c in columns.values() if c.time and c.present == c.rows]
    by_name = [name for name in _TIMES for c in candidates if c.lower() == name]
    if len(candidates) == 1 or by_name:
        chosen = next((c for c in candidates if by_name and c.lower() == by_name[0]), candidates[0])
        notes.append(f"{chosen} is taken as the event time: it holds a time in every row.")
        return chosen
    if candidates:
        listed = ", ".join(candidates)
        notes.append(f"No event time: {listed} all hold times; choose with --time.")
    else:
        notes.append(
            "No event time: no column holds a time in every row."
            " Rows are taken in the source's order; the last ones judge."
        )
    return None


def _key(columns: Mapping[str, ColumnProfile], hints: Hints, notes: list[str]) -> str | None:
    if hints.key is not None:
        column = _named(columns, "key", hints.key)
        if column.distinct < column.rows:
            raise UsageError(
                f"--key must name a column that is unique in every row. Got {hints.key}: "
                f"{column.distinct:,} different values in {column.rows:,} rows."
            )
        return hints.key
    for column in columns.values():
        unique = column.distinct == column.rows and (column.kind == "text" or column.integer)
        if unique and _KEY.search(column.name):
            notes.append(
                f"{column.name} is taken as the entity key: by its name, and it is unique."
            )
            return column.name
    notes.append("No entity key: no column is both named like one and unique.")
    return None


def _label(
    columns: Mapping[str, ColumnProfile],
    hints: Hints,
    taken: set[str | None],
    notes: list[str],
) -> ColumnProfile:
    if hints.label is not None:
        if hints.label in taken:
            raise UsageError(f"--label must not be the key or the time. Got {hints.label}.")
        return _named(columns, "label", hints.label)
    free = [c for c in columns.values() if c.name not in taken and c.distinct >= 2]
    by_name = [c for name in _LABELS for c in free if c.name.lower() == name]
    two_valued = [c for c in free if c.distinct == 2]
    if by_name:
        notes.append(f"{by_name[0].name} is taken as the label: by its name.")
        return by_name[0]
    if len(two_valued) == 1:
        notes.append(f"{two_valued[0].name} is taken as the label: it alone has two values.")
        return two_valued[0]
    few = [c for c in free if c.words]
    listed = ", ".join(c.name for c in (two_valued or few or free)) or "none has two values"
    raise UsageError(
        f"--label must name the column to predict, since none can be guessed. Candidates: {listed}."
    )


def _task(label: ColumnProfile, hints: Hints, notes: list[str]) -> tuple[Task, dict[str, Any], int]:
    if label.distinct < 2:
        raise UsageError(
            f"label {label.name} must have two or more values. Got {label.distinct} in "
            f"{label.rows:,} rows."
        )
    if label.distinct == 2:
        positive = _positive(label, hints, notes)
        block = {"name": label.name, "positive": positive}
        if isinstance(positive, str) or positive not in (0, 1):
            both = [_typed(word, label) for word in label.words]
            block["negative"] = next(value for value in both if value != positive)
        return Task.BINARY, block, min(label.counts)
    if hints.positive is not None:
        raise UsageError(
            f"--positive must be left out where the label has more than two values. Got "
            f"{hints.positive} for {label.name}, which has {label.distinct:,}."
        )
    whole_classes = label.integer and label.distinct <= _INTEGER_CLASSES
    if label.distinct <= MOST_CLASSES and (not label.numeric or whole_classes):
        classes = sorted(_class_name(word, label) for word in label.words)
        notes.append(f"Task multiclass: {label.name} has {label.distinct} values.")
        return Task.MULTICLASS, {"name": label.name, "classes": classes}, min(label.counts)
    if label.numeric and label.kind in ("number", "text") and not label.infinite:
        notes.append(f"Task regression: {label.name} is a number with {label.distinct:,} values.")
        return Task.REGRESSION, {"name": label.name}, label.present
    raise UsageError(
        f"label {label.name} must be numbers, or at most {MOST_CLASSES} classes. Got "
        f"{label.distinct:,} different values, such as {(label.words or (label.odd,))[0]!r}."
    )


def _class_name(word: str, label: ColumnProfile) -> str:
    # Whole numbers that a file holds as 1.0 are read as the class 1.
    return str(int(float(word))) if label.integer and label.kind == "number" else word


def _positive(label: ColumnProfile, hints: Hints, notes: list[str]) -> str | int | bool:
    words = label.words
    if hints.positive is not None:
        alike = [w for w in words if hints.positive.lower() in (w.lower(), _plain(w, label))]
        if not alike:
            raise UsageError(
                f"--positive must be one of the values of {label.name}, {' or '.join(words)}. "
                f"Got {hints.positive}."
            )
        return _typed(alike[0], label)
    known = [w for name in _POSITIVES for w in words if _plain(w, label) == name]
    if label.integer and (label.low, label.high) not in ((0, 1), (-1, 1)):
        # Codes such as 1 and 2 say nothing by themselves.
        known = []
    chosen = known[0] if known else words[-1]
    why = "by its name" if known else "it is the rarer one"
    notes.append(f"{_plain(chosen, label)!r} of {label.name} is taken as positive: {why}.")
    return _typed(chosen, label)


def _plain(word: str, label: ColumnProfile) -> str:
    return str(_typed(word, label)).lower()


def _typed(word: str, label: ColumnProfile) -> str | int | bool:
    if label.kind == "boolean" or (label.boolean and not label.numeric and _true_false(label)):
        return word.strip().lower() == "true"
    return int(float(word)) if label.integer else word


def _true_false(label: ColumnProfile) -> bool:
    return {word.strip().lower() for word in label.words} == {"true", "false"}
