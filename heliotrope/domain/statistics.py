"""The numbers validation rests on, written once as Ibis expressions.

Counts, bounds and moments are taken over all rows, in few passes: one aggregate query covers many
columns. Quantiles and everything that needs ranks come from a systematic sample of at most
`SAMPLE_ROWS` rows (every k-th in stored order, so the same on every engine): at 200,000 rows a
quantile's rank is off by at most about .003, far below any threshold here.
"""

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from heliotrope.errors import DataFault
from heliotrope.spec import Feature, FeatureType, ModelSpec
from heliotrope.vocabulary import COLUMN_ROW, Task

SAMPLE_ROWS = 200_000
EXACT_DISTINCT_ROWS = 1_000_000
"""Above this many rows distinct values are estimated (HyperLogLog, a few per cent off)."""
COLUMNS_A_PASS = 100
SHARES_KEPT = 200
INTEGER_LIMIT = 16_777_216
"""Largest whole number up to which float32 holds every one."""


def require_columns(have: Iterable[str], spec: ModelSpec, where: str) -> None:
    """Refuse a table that lacks a column, naming the likeliest new name of each.

    Raises:
        DataFault: with every missing column.
    """
    there = list(have)
    roles = {feature.name: f"feature {feature.name}" for feature in spec.features}
    roles[spec.label.name] = f"label {spec.label.name}"
    if spec.entity_key is not None:
        roles[spec.entity_key] = f"entity key {spec.entity_key}"
    if spec.event_time is not None:
        roles[spec.event_time] = f"event time {spec.event_time}"
    missing = [name for name in roles if name not in there]
    if not missing:
        return
    spare = [name for name in there if name not in roles]
    lines = []
    for name in missing:
        folded = {other.lower(): other for other in spare}
        close = difflib.get_close_matches(name.lower(), list(folded), n=1)
        hint = f" (renamed to {folded[close[0]]}?)" if close else ""
        lines.append(f"{roles[name]} must be a column of {where}{hint}")
    raise DataFault("; ".join(lines) + f". Got columns {_listed(there)}.")


def _listed(names: Sequence[str], most: int = 30) -> str:
    tail = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + tail


def label_code(table: Any, spec: ModelSpec) -> Any:
    """The label as a number; null where there is none.

    int8 1 or 0 (binary), int32 position in `spec.label.classes` (multiclass, null for a value
    that is not among them), float64 (regression, null unless finite).
    """
    import ibis

    label = table[spec.label.name]
    if spec.task is Task.BINARY:
        return (label == spec.label.positive).cast("int8")
    if spec.task is Task.MULTICLASS:
        positions = [(label == name, index) for index, name in enumerate(spec.classes)]
        return ibis.cases(*positions).cast("int32")
    number = label.cast("float64")
    odd = number.isnan() | number.isinf()
    return odd.ifelse(ibis.null("float64"), number)


def rules(table: Any, feature: Feature) -> dict[str, Any]:
    """Which rows break which rule of a feature: check name -> Ibis boolean, never null."""
    column = table[feature.name]
    broken: dict[str, Any] = {}
    if not feature.nullable:
        broken["null"] = column.isnull()
    if feature.type is FeatureType.FLOAT:
        broken["infinite"] = column.isinf().fill_null(False)
    if feature.type is FeatureType.CATEGORY:
        known = list(feature.categories or ())
        broken["unknown_category"] = (column.notnull() & ~column.isin(known)).fill_null(False)
    if feature.type.numeric:
        low, high = numeric_bounds(feature)
        outside = None
        if low is not None:
            outside = column < low
        if high is not None:
            above = column > high
            outside = above if outside is None else outside | above
        if outside is not None:
            if feature.type is FeatureType.FLOAT:
                outside = outside & ~column.isinf()
            broken["out_of_bounds"] = outside.fill_null(False)
    return broken


def numeric_bounds(feature: Feature) -> tuple[Any, Any]:
    """Inclusive bounds as the stored type compares them: float32, or whole numbers that fit it."""
    import ibis

    if feature.type is FeatureType.INTEGER:
        low = -INTEGER_LIMIT if feature.min is None else max(-INTEGER_LIMIT, feature.min)
        high = INTEGER_LIMIT if feature.max is None else min(INTEGER_LIMIT, feature.max)
        return low, high
    # A bound such as 0.1 is rounded the way stored values were, or the value 0.1 would break it.
    return tuple(
        None if bound is None else ibis.literal(bound, "float64").cast("float32")
        for bound in (feature.min, feature.max)
    )  # type: ignore[return-value]


def label_rules(table: Any, spec: ModelSpec) -> dict[str, Any]:
    """Which rows have a label that cannot be trained on: check name -> Ibis boolean."""
    broken = {"label_unknown": label_code(table, spec).isnull()}
    if spec.task is Task.REGRESSION:
        label, outside = table[spec.label.name], None
        if spec.label.min is not None:
            outside = label < spec.label.min
        if spec.label.max is not None:
            above = label > spec.label.max
            outside = above if outside is None else outside | above
        if outside is not None:
            broken["label_out_of_bounds"] = outside.fill_null(False) & ~broken["label_unknown"]
    return broken


def usable(table: Any, spec: ModelSpec) -> Any:
    """Whether a row breaks no rule of the spec: one Ibis boolean, never null.

    Training, evaluation and the row counts of reports all use this very expression.
    """
    fine = None
    for broken in _all_rules(table, spec):
        fine = ~broken if fine is None else fine & ~broken
    return fine


def _all_rules(table: Any, spec: ModelSpec) -> list[Any]:
    broken = [rule for feature in spec.features for rule in rules(table, feature).values()]
    return broken + list(label_rules(table, spec).values())


def counts(table: Any, spec: ModelSpec) -> dict[str, dict[str, int]]:
    """How many rows break each rule: column -> check -> rows; `""` holds `rows` and `usable`."""
    named = [("", "rows", None), ("", "usable", usable(table, spec))]
    for feature in spec.features:
        named += [(feature.name, check, rule) for check, rule in rules(table, feature).items()]
    named += [(spec.label.name, check, rule) for check, rule in label_rules(table, spec).items()]
    found: dict[str, dict[str, int]] = {}
    for chunk in _chunks(named, COLUMNS_A_PASS * 3):
        query = table.aggregate(
            **{
                f"c{i}": table.count() if rule is None else rule.sum()
                for i, (_, _, rule) in enumerate(chunk)
            }
        )
        row = query.to_pyarrow().to_pylist()[0]
        for i, (column, check, _) in enumerate(chunk):
            found.setdefault(column, {})[check] = int(row[f"c{i}"] or 0)
    return found


def moments(table: Any, names: Sequence[str], exact_distinct: bool) -> dict[str, dict[str, Any]]:
    """Per column: `nulls`, `distinct`, `infinite`; for numbers also `mean sd minimum maximum`.

    Moments are over finite values.
    """
    found: dict[str, dict[str, Any]] = {}
    for chunk in _chunks(list(names), COLUMNS_A_PASS):
        metrics: dict[str, Any] = {}
        for i, name in enumerate(chunk):
            metrics |= {f"{k}_{i}": v for k, v in _moments(table[name], exact_distinct).items()}
        row = table.aggregate(**metrics).to_pyarrow().to_pylist()[0]
        for i, name in enumerate(chunk):
            suffix = f"_{i}"
            found[name] = {
                key[: -len(suffix)]: value
                for key, value in row.items()
                if key.rsplit("_", 1)[1] == str(i)
            }
    return found


def _moments(column: Any, exact_distinct: bool) -> dict[str, Any]:
    import ibis

    metrics = {
        "nulls": column.isnull().sum(),
        "distinct": column.nunique() if exact_distinct else column.approx_nunique(),
    }
    if not column.type().is_numeric():
        return metrics
    number = column.cast("float64")
    finite = number
    if column.type().is_floating():
        metrics["infinite"] = column.isinf().sum()
        finite = (column.isinf() | column.isnan()).ifelse(ibis.null("float64"), number)
    return metrics | {
        "mean": finite.mean(),
        "sd": finite.std(how="pop"),
        "minimum": finite.min(),
        "maximum": finite.max(),
    }


def value_counts(table: Any, name: str, most: int = SHARES_KEPT) -> list[tuple[Any, int]]:
    """The commonest values of a column with their rows, missing left out; ties by value."""
    import ibis

    held = table.filter(table[name].notnull())
    grouped = held.group_by(value=held[name]).aggregate(n=held.count())
    rows = grouped.order_by(ibis.desc("n"), "value").limit(most).to_pyarrow().to_pylist()
    return [(row["value"], int(row["n"])) for row in rows]


def duplicates(table: Any, name: str, most: int) -> tuple[int, list[tuple[Any, int]]]:
    """How many rows share their key with an earlier row, and the worst keys with their rows."""
    import ibis

    held = table.filter(table[name].notnull())
    grouped = held.group_by(key=held[name]).aggregate(n=held.count())
    repeated = grouped.filter(grouped.n > 1)
    extra = repeated.aggregate(extra=(repeated.n - 1).sum()).to_pyarrow().to_pylist()[0]["extra"]
    if not extra:
        return 0, []
    worst = repeated.order_by(ibis.desc("n"), "key").limit(most).to_pyarrow().to_pylist()
    return int(extra), [(row["key"], int(row["n"])) for row in worst]


def examples(
    table: Any, spec: ModelSpec, broken: Any, name: str, most: int
) -> tuple[dict[str, Any], ...]:
    """The first rows where `broken` holds, with position, key and the column's value."""
    keep = [COLUMN_ROW, *([spec.entity_key] if spec.entity_key else []), name]
    rows = table.filter(broken).select(*dict.fromkeys(keep)).order_by(COLUMN_ROW).limit(most)
    return tuple(
        {key: plain(value) for key, value in row.items()} for row in rows.to_pyarrow().to_pylist()
    )


def sample(table: Any, columns: dict[str, Any], rows: int) -> Any:
    """A systematic sample of columns as a pandas frame, in stored order."""
    step = max(1, math.ceil(rows / SAMPLE_ROWS))
    chosen = table.select(_position=table[COLUMN_ROW], **columns)
    if step > 1:
        chosen = chosen.filter(chosen["_position"] % step == 0)
    return chosen.order_by("_position").drop("_position").to_pandas()


def plain(value: Any) -> Any:
    """A value that JSON holds and a person reads: a float32's digits, a time as ISO text."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value


def _chunks(items: list[Any], size: int) -> Iterable[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
