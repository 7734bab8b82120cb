"""A window of rows as drift is scored on it: one array a column, in the types they came in."""

import decimal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from heliotrope.spec import Feature, FeatureType

Floats: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Words:
    """A category column as positions in a list of words; -1 is missing."""

    codes: npt.NDArray[np.integer[Any]]
    """[rows]."""
    values: tuple[str, ...]

    def __len__(self) -> int:
        """Rows."""
        return len(self.codes)

    def counts(self) -> dict[str, int]:
        """Rows of each word that is there."""
        found = np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))
        return {w: int(n) for w, n in zip(self.values, found, strict=True) if n}


@dataclass(frozen=True)
class Unreadable:
    """A column whose values are not of the kind its feature demands."""

    problem: str
    """Such as `hold numbers. Got 'n/a', text, on 12 of 40 rows`."""


Column: TypeAlias = Floats | Words | Unreadable


@dataclass(frozen=True)
class DriftWindow:
    """Rows of one window."""

    rows: int
    columns: Mapping[str, Column]
    """By feature; one that was not delivered is not there. Numbers are floats with NaN where
    missing, booleans 0 and 1."""
    score: Floats | None = None
    """[rows] the model's answers: probability of the positive class, or the value."""
    extra: tuple[str, ...] = ()
    """Names of columns that came and are no feature."""
    repeated_keys: int = 0
    """Rows that bear the entity key of another row."""
    start: datetime | None = None
    """UTC, inclusive."""
    end: datetime | None = None
    """UTC, exclusive."""
    of: Mapping[str, Any] = field(default_factory=dict)
    """What else a report should say of where the rows are from."""


def window_of_matrix(
    features: Sequence[Feature],
    matrix: npt.NDArray[np.float32],
    score: Floats | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> DriftWindow:
    """Rows in a model's own coding as a window.

    Args:
        features: of the spec, in its order.
        matrix: [rows, features]; a boolean is 0 or 1, a category its position, missing is NaN.
        score: [rows].
        start: of the window, inclusive.
        end: exclusive.

    >>> spec = [Feature(name="x", type=FeatureType.FLOAT)]
    >>> window_of_matrix(spec, np.ones((3, 1), dtype=np.float32)).rows
    3
    """
    columns: dict[str, Column] = {}
    for index, feature in enumerate(features):
        values = np.ascontiguousarray(matrix[:, index])
        if feature.type is FeatureType.CATEGORY:
            codes = np.where(np.isnan(values), -1, values).astype(np.int32)
            columns[feature.name] = Words(codes, feature.categories or ())
        else:
            columns[feature.name] = values
    return DriftWindow(len(matrix), columns, score, start=start, end=end)


def window_of_raw(
    features: Sequence[Feature],
    columns: Mapping[str, Any],
    score: Any = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> DriftWindow:
    """Columns as a store or a person hands them, read as the features demand.

    Nothing raises: a column of the wrong kind becomes `Unreadable`, which is a data fault.

    Args:
        features: of the spec.
        columns: name -> [rows], whatever holds values: lists, object arrays, pandas' columns.
        score: [rows].
        start: of the window, inclusive.
        end: exclusive.
    """
    arrays = {str(name): _array(values) for name, values in columns.items()}
    rows = max((len(values) for values in arrays.values()), default=0)
    known = {feature.name for feature in features}
    read: dict[str, Column] = {}
    for feature in features:
        if feature.name in arrays:
            read[feature.name] = _read(feature, arrays[feature.name], rows)
    scores = None if score is None else np.asarray(score, dtype=np.float64)
    extra = tuple(sorted(name for name in arrays if name not in known))
    return DriftWindow(rows, read, scores, extra, start=start, end=end)


def window_of_table(
    features: Sequence[Feature],
    table: Any,
    score: Floats | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> DriftWindow:
    """Rows of an Arrow table, whose columns are named as the features are.

    Args:
        features: of the spec.
        table: `pyarrow.Table`, a column a feature that was delivered.
        score: [rows].
        start: of the window, inclusive.
        end: exclusive.
    """
    there = set(table.column_names)
    columns = {
        feature.name: arrow_column(feature, table.column(feature.name))
        for feature in features
        if feature.name in there
    }
    extra = tuple(sorted(there - {feature.name for feature in features}))
    return DriftWindow(table.num_rows, columns, score, extra, start=start, end=end)


def arrow_column(feature: Feature, column: Any) -> Column:
    """One column of Arrow, without a Python object a value."""
    if feature.type is FeatureType.CATEGORY and str(column.type) in ("string", "large_string"):
        coded = column.dictionary_encode()
        coded = coded.combine_chunks() if hasattr(coded, "combine_chunks") else coded
        codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return Words(codes.astype(np.int32), tuple(coded.dictionary.to_pylist()))
    if feature.type is not FeatureType.CATEGORY and str(column.type) in _ARROW_NUMBERS:
        kind = "float32" if str(column.type) == "float" else "float64"
        if str(column.type) == "bool":
            column = column.cast("int8")
        numbers: Floats = column.cast(kind).to_numpy(zero_copy_only=False) if hasattr(
            column, "buffers"
        ) else column.cast(kind).to_numpy()  # fmt: skip
        return numbers
    return _read(feature, np.asarray(column.to_pylist(), dtype=object), len(column))


_ARROW_NUMBERS = frozenset({
    "bool", "float", "double", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
})  # fmt: skip


def matrix_of(features: Sequence[Feature], window: DriftWindow) -> npt.NDArray[np.float32]:
    """Rows in the model's own coding, [rows, features]; what it does not know is missing."""
    matrix = np.full((window.rows, len(features)), np.nan, dtype=np.float32)
    for index, feature in enumerate(features):
        column = window.columns.get(feature.name)
        if isinstance(column, Words):
            known = {word: place for place, word in enumerate(feature.categories or ())}
            table = np.array([*(known.get(word, np.nan) for word in column.values), np.nan])
            matrix[:, index] = table[column.codes]
        elif isinstance(column, np.ndarray):
            matrix[:, index] = np.where(np.isfinite(column), column, np.nan)
    return matrix


def _array(values: Any) -> npt.NDArray[Any]:
    if hasattr(values, "to_numpy"):
        values = values.to_numpy(dtype=object) if str(values.dtype)[:1].isupper() else (
            values.to_numpy()
        )  # fmt: skip
    array = np.asarray(values)
    if array.ndim == 1:
        return array
    # Values that are lists themselves: each stays one value, of the wrong type.
    held = np.empty(len(values), dtype=object)
    held[:] = [*values]
    return held


def _read(feature: Feature, values: npt.NDArray[Any], rows: int) -> Column:
    if len(values) != rows:
        return Unreadable(f"have a value a row, {rows:,} in all. Got {len(values):,}")
    if feature.type is FeatureType.CATEGORY:
        return _words(feature, values)
    if values.dtype.kind in "fiub":
        return values if values.dtype.kind == "f" else values.astype(np.float64)
    return _numbers(feature, values)


def _numbers(feature: Feature, values: npt.NDArray[Any]) -> Column:
    numbers = np.full(len(values), np.nan)
    wrong, first = 0, None
    for row, value in enumerate(values.tolist()):
        if _missing(value):
            continue
        if isinstance(value, bool | int | float | decimal.Decimal):
            numbers[row] = float(value)
        else:
            wrong, first = wrong + 1, value if first is None else first
    if not wrong:
        return numbers
    what = "true or false" if feature.type is FeatureType.BOOLEAN else "numbers"
    kind = "text" if isinstance(first, str) else type(first).__name__
    return Unreadable(
        f"hold {what}. Got {first!r:.40}, {kind}, on {wrong:,} of {len(values):,} rows"
    )


def _words(feature: Feature, values: npt.NDArray[Any]) -> Column:
    if values.dtype.kind in "fiu":
        held = values[~np.isnan(values)] if values.dtype.kind == "f" else values
        if len(held):
            return Unreadable(f"hold words. Got {held[0]}, a number, on {len(held):,} rows")
        return Words(np.full(len(values), -1, dtype=np.int32), feature.categories or ())
    place = {word: code for code, word in enumerate(feature.categories or ())}
    codes = np.empty(len(values), dtype=np.int32)
    for row, value in enumerate(values.tolist()):
        codes[row] = -1 if _missing(value) else place.setdefault(str(value), len(place))
    return Words(codes, tuple(place))


def _missing(value: object) -> bool:
    # pandas' NA and NaT are equal to nothing, themselves included, and NA has no truth.
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value
