"""From rows as people send them to the float32 matrix that the served graph reads.

Training-side parity checks and the predictor call the same code, so both hand the model the same
bits. The quick way encodes whole batches without looking at single cells; only when it finds that
something is wrong are the cells looked at one by one, to say which, and what it must be.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.domain.serving import ServingContract
from heliotrope.errors import Problem, UsageError
from heliotrope.spec.features import FLOAT32_MAX, Feature, FeatureType

FloatMatrix = npt.NDArray[np.float32]
_Cell = tuple[dict[object, float] | None, float, float, bool, bool]
"""Codes of a category or boolean; bounds; whether a number must be whole, and may be missing."""
Where = Callable[[int, str], str]
"""How a cell is called in messages, of its row and its feature's name."""

INTEGER_MAX = 2.0**24
"""Whole numbers up to here are exact in float32."""
REPORTED = 5
"""Problems named in one refusal; more are only counted."""
FEW_ROWS = 4
"""Up to here cells are encoded one by one, which is quicker than numpy's calls (15 us a matrix)."""
KEY_MAX = 200
"""Longest entity key, in characters."""
_NUMBERS = {float, int, type(None)}


class InputRefused(UsageError):
    """A request's rows were refused; `problems` holds the first few things wrong with them."""

    def __init__(self, problems: Sequence[Problem], more: int = 0) -> None:
        self.problems = tuple(problems)
        text = " ".join(str(problem) for problem in self.problems)
        super().__init__(f"{text} And {more} more." if more else text)


def refuse(field: str, must: str, got: str | None = None) -> InputRefused:
    """A refusal with one problem."""
    return InputRefused([Problem(field, must, got)])


def show_value(value: object) -> str:
    """A value as a message may repeat it: short, and never the whole of something large.

    >>> show_value("x" * 1000)[:4], len(show_value("x" * 1000))
    ('"xxx', 45)
    >>> show_value([1, 2]), show_value(None), show_value(float("inf"))
    ('a list of 2', 'null', 'Infinity')
    """
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 40 else f'"{value[:40]}...'
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."


def cell_problem(feature: Feature, value: object) -> str | None:
    """What a value must be and is not, or None when it may be scored.

    A boolean may also be sent as 0 or 1, and a number's NaN means missing.
    """
    lost = feature.type.numeric and isinstance(value, float) and math.isnan(value)
    if value is None or lost:
        return None if feature.nullable else "be given: it may not be missing"
    if feature.type is FeatureType.CATEGORY:
        return _category_problem(feature, value)
    if feature.type is FeatureType.BOOLEAN:
        return None if value in (True, False) else "be true or false"
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = "whole number" if feature.type is FeatureType.INTEGER else "number"
        return f"be a {kind}"
    low, high = bounds(feature)
    if not low <= value <= high:
        return _bound_text(feature)
    whole = feature.type is not FeatureType.INTEGER or value == math.floor(value)
    return None if whole else "be a whole number"


def _category_problem(feature: Feature, value: object) -> str | None:
    categories = feature.categories or ()
    if isinstance(value, str) and value in categories:
        return None
    shown = ", ".join(c if len(c) <= 40 else c[:40] + "..." for c in categories[:10])
    more = f" (and {len(categories) - 10} more)" if len(categories) > 10 else ""
    return f"be one of {shown}{more}"


def _bound_text(feature: Feature) -> str:
    if feature.min is not None and feature.max is not None:
        return f"be between {feature.min:g} and {feature.max:g}"
    if feature.min is not None:
        return f"be a finite number, {feature.min:g} or more"
    if feature.max is not None:
        return f"be a finite number, {feature.max:g} or less"
    if feature.type is FeatureType.INTEGER:
        return f"be between {-INTEGER_MAX:.0f} and {INTEGER_MAX:.0f}, where float32 is exact"
    return "be a finite number that fits float32"


def bounds(feature: Feature) -> tuple[float, float]:
    """The smallest and largest value that may be scored, the type's own limits included.

    Categories and booleans are bounded by their codes.
    """
    if feature.type is FeatureType.CATEGORY:
        return 0.0, float(len(feature.categories or ()) - 1)
    if feature.type is FeatureType.BOOLEAN:
        return 0.0, 1.0
    limit = INTEGER_MAX if feature.type is FeatureType.INTEGER else FLOAT32_MAX
    low = -limit if feature.min is None else max(feature.min, -limit)
    return low, limit if feature.max is None else min(feature.max, limit)


def codes(feature: Feature) -> dict[object, float]:
    """The number that stands for each value of a category or boolean."""
    table: dict[object, float] = {None: math.nan} if feature.nullable else {}
    if feature.type is FeatureType.BOOLEAN:
        return table | {False: 0.0, True: 1.0}
    return table | {name: float(i) for i, name in enumerate(feature.categories or ())}


def _cell(feature: Feature) -> _Cell:
    table = None if feature.type.numeric else codes(feature)
    whole = feature.type is FeatureType.INTEGER
    return table, *bounds(feature), whole, feature.nullable


def _in_instances(row: int, name: str) -> str:
    return f"instances[{row}].{name}"


class RowEncoder:
    """Encodes rows for one model; built once, since it keeps the tables that make it quick."""

    def __init__(self, contract: ServingContract) -> None:
        features = contract.features
        self.features = features
        self.names = tuple(f.name for f in features)
        self.entity_key = contract.entity_key
        self._known = frozenset(self.names) | (
            frozenset() if contract.entity_key is None else {contract.entity_key}
        )
        self._numeric = [i for i, f in enumerate(features) if f.type.numeric]
        self._coded = [(i, codes(f)) for i, f in enumerate(features) if not f.type.numeric]
        self._take_numeric = _taker(self._numeric)
        self._take_named = _taker(self.names)
        self._width = len(features)
        self._low = np.array([bounds(f)[0] for f in features])
        self._high = np.array([bounds(f)[1] for f in features])
        self._nullable = np.array([f.nullable for f in features])
        whole = [i for i, f in enumerate(features) if f.type is FeatureType.INTEGER]
        self._whole = np.array(whole, dtype=np.intp)
        self._cells = [_cell(feature) for feature in features]

    def matrix(self, rows: Sequence[Sequence[Any]], where: Where = _in_instances) -> FloatMatrix:
        """Encode rows whose values are in the features' order: float32 [rows, features].

        Bounds are checked in float64, before rounding.

        Raises:
            InputRefused: the first few values that may not be scored, by row and name.
        """
        encoded = self._encode_few(rows) if len(rows) <= FEW_ROWS else self._encode_many(rows)
        if encoded is None:
            raise self.diagnose(rows, where)
        return encoded

    def _encode_few(self, rows: Sequence[Sequence[Any]]) -> FloatMatrix | None:
        numbers: list[float] = []
        try:
            for row in rows:
                if len(row) != self._width:
                    return None
                for value, (table, low, high, whole, nullable) in zip(
                    row, self._cells, strict=True
                ):
                    if table is not None:
                        numbers.append(table[value])
                        continue
                    if type(value) not in _NUMBERS:
                        return None
                    number = math.nan if value is None else float(value)
                    if low <= number <= high:
                        if whole and not number.is_integer():
                            return None
                    elif not nullable or number == number:
                        return None
                    numbers.append(number)
        except (KeyError, TypeError, OverflowError):
            return None
        return np.array(numbers, dtype=np.float32).reshape(len(rows), self._width)

    def _encode_many(self, rows: Sequence[Sequence[Any]]) -> FloatMatrix | None:
        if set(map(len, rows)) != {self._width}:
            return None
        wide = np.empty((len(rows), self._width))
        flat = list(chain.from_iterable(map(self._take_numeric, rows)))
        if not set(map(type, flat)) <= _NUMBERS:
            return None
        try:
            if flat:
                wide[:, self._numeric] = np.array(flat, dtype=np.float64).reshape(len(rows), -1)
            for index, table in self._coded:
                wide[:, index] = [table[row[index]] for row in rows]
        except (KeyError, TypeError, OverflowError):
            return None
        inside = (wide >= self._low) & (wide <= self._high)
        if not inside.all() and not (inside | (np.isnan(wide) & self._nullable)).all():
            return None
        if self._whole.size:
            whole = wide[:, self._whole]
            if ((whole != np.floor(whole)) & ~np.isnan(whole)).any():
                return None
        return wide.astype(np.float32)

    def diagnose(self, rows: Sequence[Sequence[Any]], where: Where) -> InputRefused:
        """Name what is wrong with rows that were refused."""
        problems: list[Problem] = []
        count = 0
        for number, row in enumerate(rows):
            if len(row) != self._width:
                problem = Problem(
                    where(number, "").rstrip("."),
                    f"hold {self._width} values, in the order of the features",
                    str(len(row)),
                )
                count += 1
                problems += [problem] if count <= REPORTED else []
                continue
            for feature, value in zip(self.features, row, strict=True):
                must = cell_problem(feature, value)
                if must is not None:
                    count += 1
                    if count <= REPORTED:
                        field = where(number, feature.name)
                        problems.append(Problem(field, must, show_value(value)))
        if not problems:
            raise AssertionError("rows were refused that have no problem")
        return InputRefused(problems, max(0, count - REPORTED))

    def named(
        self, rows: Sequence[Mapping[str, Any]], where: Where = _in_instances
    ) -> tuple[list[Sequence[Any]], list[str | None] | None]:
        """Put named values in order, and take the entity keys aside (None when no row has one).

        A nullable column may be left out; it is missing then.

        Raises:
            InputRefused: a column is unknown, or one is left out that may not be.
        """
        keys = self._keys(rows, where)
        width = self._width if keys is None else self._width + 1
        try:
            ordered: list[Sequence[Any]] = list(map(self._take_named, rows))
        except KeyError:
            ordered = []
        if ordered and set(map(len, rows)) == {width}:
            return ordered, keys
        return [self._named_row(i, row, where) for i, row in enumerate(rows)], keys

    def _named_row(self, number: int, row: Mapping[str, Any], where: Where) -> list[Any]:
        extra = [name for name in row if name not in self._known]
        if extra:
            shown = str(extra[0])[:80]
            raise refuse(where(number, shown), "be left out: the model has no such feature")
        missing = [f.name for f in self.features if f.name not in row and not f.nullable]
        if missing:
            raise refuse(where(number, missing[0]), "be given: it may not be missing", "nothing")
        return [row.get(name) for name in self.names]

    def _keys(self, rows: Sequence[Mapping[str, Any]], where: Where) -> list[str | None] | None:
        name = self.entity_key
        if name is None or not any(name in row for row in rows):
            return None
        return [key_text(row.get(name), where(i, name)) for i, row in enumerate(rows)]


def key_text(value: object, field: str) -> str | None:
    """An entity key as it is logged; whole numbers become text.

    Raises:
        InputRefused: it is neither text nor a whole number, or is too long.
    """
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > KEY_MAX:
        must = f"be text of at most {KEY_MAX} characters, or a whole number"
        raise refuse(field, must, show_value(value))
    return value


def _taker(keys: Sequence[Any]) -> Callable[[Any], Sequence[Any]]:
    if not keys:
        return lambda _: ()
    if len(keys) == 1:
        only = keys[0]
        return lambda row: (row[only],)
    return itemgetter(*keys)


def encode_rows(contract: ServingContract, rows: Sequence[Mapping[str, Any]]) -> FloatMatrix:
    """Encode rows of named values as a request's would be: float32 [rows, features].

    Numpy scalars are taken as the numbers they are, and NaN as missing.

    Raises:
        InputRefused: a value, or a column, may not be scored.
    """
    encoder = RowEncoder(contract)
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    if not plain:
        return np.empty((0, len(contract.features)), dtype=np.float32)
    ordered, _ = encoder.named(plain)
    return encoder.matrix(ordered)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
