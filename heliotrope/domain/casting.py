"""Source columns to the types a snapshot stores, as Ibis expressions that run on any engine.

The stored type follows from the spec alone, never from a sample of the data: the same rows give
the same snapshot from CSV and from Parquet, and a zip code in a category column stays text.

| column | stored as | read from |
|---|---|---|
| float | float32, the precision the model computes in; NaN becomes missing, a number beyond
  float32 becomes infinite so that validation names it | numbers, text |
| integer | int64 | whole numbers, also `3.0`, text |
| boolean | boolean | booleans, 0 and 1, `true false yes no t f y n` |
| category | string | text as it is, numbers and booleans as text |
| event time | timestamp, UTC, microseconds | timestamps and dates (UTC where they name no zone),
  ISO 8601 text |
| entity key | int64 for whole numbers, else string | |
| label | binary: the type of `label.positive`; multiclass: string; regression: float64 | |
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from heliotrope.errors import DataFault
from heliotrope.spec import FeatureType, ModelSpec
from heliotrope.spec.features import FLOAT32_MAX
from heliotrope.vocabulary import Task

MISSING_TEXT = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""Text that means a missing value, unless it is one of the column's own categories."""
_TRUE = ("true", "t", "yes", "y", "1", "1.0")
_FALSE = ("false", "f", "no", "n", "0", "0.0")
_INT64_SAFE = 9_007_199_254_740_992.0
FEATURE = "feature"
LABEL = "label"
KEY = "entity key"
TIME = "event time"


@dataclass(frozen=True)
class TypedColumn:
    """One column on its way into a snapshot."""

    name: str
    role: str
    """FEATURE, LABEL, KEY or TIME."""
    must: str
    """What every value must be, in words."""
    value: Any
    """Ibis expression of the stored type; null where missing or unreadable."""
    unreadable: Any
    """Ibis boolean, never null: a value is there and cannot be read as what it must be."""


def typed_columns(table: Any, spec: ModelSpec) -> list[TypedColumn]:
    """The columns a snapshot keeps, in stored order: features, label, entity key, event time.

    Raises:
        DataFault: a column's type cannot hold such values at all (a list, a struct, bytes).
    """
    kinds = {
        FeatureType.FLOAT: (_float32, "be a number"),
        FeatureType.INTEGER: (_integer, "be a whole number"),
        FeatureType.BOOLEAN: (_boolean, "be true or false"),
    }
    columns = []
    for feature in spec.features:
        if feature.type is FeatureType.CATEGORY:
            own = feature.categories or ()
            text = _text_except(tuple(m for m in MISSING_TEXT if m not in own))
            columns.append(_typed(table, feature.name, FEATURE, text, "be text"))
        else:
            cast, must = kinds[feature.type]
            columns.append(_typed(table, feature.name, FEATURE, cast, must))
    columns.append(_label(table, spec))
    if spec.entity_key is not None:
        columns.append(_typed(table, spec.entity_key, KEY, _key, "be text or a whole number"))
    if spec.event_time is not None:
        must = "be a timestamp such as 2024-03-01 or 2024-03-01T12:00:00Z"
        columns.append(_typed(table, spec.event_time, TIME, _timestamp, must))
    return columns


def _label(table: Any, spec: ModelSpec) -> TypedColumn:
    name, positive = spec.label.name, spec.label.positive
    if spec.task is Task.REGRESSION:
        return _typed(table, name, LABEL, _float64, "be a number")
    known = spec.classes
    text = _text_except(tuple(m for m in MISSING_TEXT if m not in known))
    if spec.task is Task.MULTICLASS or isinstance(positive, str):
        return _typed(table, name, LABEL, text, "be text")
    if isinstance(positive, bool):
        return _typed(table, name, LABEL, _boolean, "be true or false, as label.positive is")
    must = f"be a whole number, as label.positive ({positive}) is"
    return _typed(table, name, LABEL, _integer, must)


def _typed(
    table: Any, name: str, role: str, cast: Callable[[Any], tuple[Any, Any]], must: str
) -> TypedColumn:
    column = table[name]
    kind = column.type()
    if not (
        kind.is_string()
        or kind.is_numeric()
        or kind.is_boolean()
        or kind.is_timestamp()
        or kind.is_date()
        or kind.is_null()
    ):
        raise DataFault(f"column {name} must {must}. Got a column of type {kind}.")
    value, present = cast(column)
    return TypedColumn(name, role, must, value, present & value.isnull())


def _present(column: Any, missing: tuple[str, ...] = MISSING_TEXT) -> Any:
    kind = column.type()
    if kind.is_string():
        return column.notnull() & ~column.strip().isin(missing)
    if kind.is_floating():
        return column.notnull() & ~column.isnan()
    return column.notnull()


def _float64(column: Any) -> tuple[Any, Any]:
    present = _present(column)
    kind = column.type()
    if kind.is_timestamp() or kind.is_date():
        return _nothing("float64"), present
    text = column.strip() if kind.is_string() else column
    number = text.try_cast("float64") if kind.is_string() else text.cast("float64")
    return present.ifelse(number, _nothing("float64")), present


def _float32(column: Any) -> tuple[Any, Any]:
    import ibis

    number, present = _float64(column)
    infinity = ibis.literal(float("inf"), "float64")
    bounded = ibis.cases(
        (number > FLOAT32_MAX, infinity), (number < -FLOAT32_MAX, -infinity), else_=number
    )
    return bounded.cast("float32"), present


def _integer(column: Any) -> tuple[Any, Any]:
    kind = column.type()
    if kind.is_integer():
        return column.try_cast("int64"), column.notnull()
    number, present = _float64(column)
    return _whole(number), present


def _whole(number: Any) -> Any:
    # Engines round to an integer type, which infinity and 1e300 overflow; so those go first.
    small = (number.abs() <= _INT64_SAFE).fill_null(False).ifelse(number, _nothing("float64"))
    whole = (small == small.round()).fill_null(False)
    return whole.ifelse(small, _nothing("float64")).cast("int64")


def _boolean(column: Any) -> tuple[Any, Any]:
    import ibis

    if column.type().is_boolean():
        return column, column.notnull()
    present = _present(column)
    text = _as_text(column).strip().lower()
    value = ibis.cases((text.isin(_TRUE), True), (text.isin(_FALSE), False))
    return present.ifelse(value, _nothing("boolean")), present


def _text_except(missing: tuple[str, ...]) -> Callable[[Any], tuple[Any, Any]]:
    def text(column: Any) -> tuple[Any, Any]:
        present = _present(column, missing)
        return present.ifelse(_as_text(column), _nothing("string")), present

    return text


def _key(column: Any) -> tuple[Any, Any]:
    if column.type().is_integer():
        return column.try_cast("int64"), column.notnull()
    return _text_except(("",))(column)


def _as_text(column: Any) -> Any:
    kind = column.type()
    if kind.is_floating() or kind.is_decimal():
        number = column.cast("float64")
        return _whole(number).cast("string").coalesce(number.cast("string"))
    return column.cast("string")


def _timestamp(column: Any) -> tuple[Any, Any]:
    kind = column.type()
    utc = "timestamp('UTC', 6)"
    if kind.is_timestamp() or kind.is_date():
        naive = column.cast("timestamp(6)") if kind.is_date() else column
        return naive.cast(utc), column.notnull()
    present = _present(column)
    if kind.is_string():
        return present.ifelse(column.strip().try_cast(utc), _nothing(utc)), present
    return _nothing(utc), present


def _nothing(kind: str) -> Any:
    import ibis

    return ibis.null(kind)
