"""Casts and rules as expressions, on tables small enough to see."""

import math
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.domain.casting import typed_columns
from heliotrope.domain.content_hash import ContentHash, blocks
from heliotrope.domain.statistics import label_code, require_columns, usable
from heliotrope.errors import DataFault
from heliotrope.spec import ModelSpec, parse_spec

SPEC = """
name: toy
task: {task}
label: {label}
source: {{path: x.csv}}
features:
  - {feature}
metrics: {{primary: {primary}}}
"""


def spec(
    feature: str = "{name: x, type: float, nullable: true}",
    label: str = "{name: y, positive: 1}",
    task: str = "binary",
) -> ModelSpec:
    """A spec with one feature."""
    primary = {"binary": "roc_auc", "multiclass": "accuracy", "regression": "mae"}[task]
    return parse_spec(SPEC.format(feature=feature, label=label, task=task, primary=primary))


def cast(values: list[Any], kind: str, source: pa.DataType) -> tuple[list[Any], list[bool]]:
    """One feature column cast as a snapshot does: stored values, and which are unreadable."""
    table = ibis.memtable(pa.table({"x": pa.array(values, source), "y": [1] * len(values)}))
    extra = ", categories: [a, NA]" if kind == "category" else ""
    column = typed_columns(table, spec(f"{{name: x, type: {kind}{extra}}}"))[0]
    found = table.select(v=column.value, u=column.unreadable).to_pyarrow().to_pydict()
    stored = [None if isinstance(v, float) and math.isnan(v) else v for v in found["v"]]
    return stored, found["u"]


@pytest.mark.parametrize(
    ("kind", "source", "values", "stored"),
    [
        ("float", pa.string(), ["1.5", " 2 ", "1e3", "NA", "", None], [1.5, 2, 1000] + [None] * 3),
        ("float", pa.float64(), [0.5, math.nan, 1e300], [0.5, None, math.inf]),
        ("float", pa.int64(), [1, None], [1.0, None]),
        ("integer", pa.string(), ["3", "3.0", "nan"], [3, 3, None]),
        ("integer", pa.float64(), [3.0, math.nan], [3, None]),
        ("boolean", pa.string(), ["True", "no", "1", "0.0", ""], [True, False, True, False, None]),
        ("boolean", pa.int32(), [1, 0, None], [True, False, None]),
        ("category", pa.string(), ["01234", "NA", "null", ""], ["01234", "NA", None, None]),
        ("category", pa.int64(), [7, None], ["7", None]),
        ("category", pa.float64(), [7.0, math.nan], ["7", None]),
        ("category", pa.bool_(), [True, None], ["true", None]),
    ],
)  # fmt: skip
def test_values_are_stored_as_the_spec_says(
    kind: str, source: pa.DataType, values: list[Any], stored: list[Any]
) -> None:
    assert cast(values, kind, source) == (stored, [False] * len(values))


@pytest.mark.parametrize(
    ("kind", "source", "values"),
    [
        ("float", pa.string(), ["1,5", "$3", "x"]),
        ("integer", pa.string(), ["1.5", "x"]),
        ("integer", pa.float64(), [1.5, math.inf]),
        ("boolean", pa.string(), ["maybe", "2"]),
        ("boolean", pa.int64(), [2, -1]),
    ],
)
def test_values_that_cannot_be_read_are_told_from_missing_ones(
    kind: str, source: pa.DataType, values: list[Any]
) -> None:
    assert cast([*values, None], kind, source) == (
        [None] * (len(values) + 1),
        [True] * len(values) + [False],
    )


def test_a_column_of_lists_is_refused() -> None:
    with pytest.raises(DataFault, match=r"column x must be a number\. Got a column of type array"):
        cast([[1]], "float", pa.list_(pa.int64()))


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2024-03-01", "2024-03-01T00:00:00"),
        ("2024-03-01 12:30:00", "2024-03-01T12:30:00"),
        ("2024-03-01T12:30:00.25+02:00", "2024-03-01T10:30:00.250"),
        ("2024-03-01T12:30:00Z", "2024-03-01T12:30:00"),
    ],
)
def test_times_are_read_as_utc(text: str, utc: str) -> None:
    timed = spec().model_copy(update={"event_time": "t"})
    table = ibis.memtable(pa.table({"x": ["1"], "y": ["1"], "t": [text]}))
    column = typed_columns(table, timed)[-1]
    value = table.select(v=column.value).to_pyarrow().column("v").cast(pa.int64())[0].as_py()
    assert value == np.datetime64(utc, "us").astype(int)


@pytest.mark.parametrize(
    ("task", "label", "values", "codes"),
    [
        ("binary", "{name: y, positive: 1}", [1, 0, None], [1, 0, None]),
        ("binary", "{name: y, positive: bad}", ["bad", "good"], [1, 0]),
        ("binary", "{name: y, positive: false}", [True, False], [0, 1]),
        ("multiclass", "{name: y, classes: [c, a, b]}", ["a", "b", "c", "z"], [1, 2, 0, None]),
        ("regression", "{name: y}", [1.5, math.inf, math.nan], [1.5, None, None]),
    ],
)  # fmt: skip
def test_labels_become_codes(task: str, label: str, values: list[Any], codes: list[Any]) -> None:
    table = ibis.memtable(pa.table({"x": [1.0] * len(values), "y": values}))
    found = table.select(c=label_code(table, spec(label=label, task=task))).to_pyarrow()
    assert found.column("c").to_pylist() == codes


@pytest.mark.parametrize(
    ("feature", "values", "expected"),
    [
        ("{name: x, type: float, max: 0.1}", [0.1, 0.2, None, -9], [True, False, False, True]),
        ("{name: x, type: float, nullable: true}", [math.inf, None], [False, True]),
        ("{name: x, type: integer}", [16_777_216, 16_777_217], [True, False]),
        ("{name: x, type: integer, min: 0.5}", [0, 1], [False, True]),
        ("{name: x, type: category, categories: [a]}", ["a", "b", None], [True, False, False]),
    ],
)
def test_usable_rows_break_no_rule(feature: str, values: list[Any], expected: list[bool]) -> None:
    kind = pa.float32() if "float" in feature else None
    table = ibis.memtable(pa.table({"x": pa.array(values, kind), "y": [1] * len(values)}))
    found = table.select(u=usable(table, spec(feature))).to_pyarrow().column("u").to_pylist()
    assert found == expected


def test_every_missing_column_is_named_with_a_hint() -> None:
    with pytest.raises(DataFault, match=r"feature x must .*\(renamed to X\?\); label y must"):
        require_columns(["X", "other"], spec(), "the source")


ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**40), 2**40), st.none() | st.text(max_size=5),
        st.none() | st.booleans(), st.none() | st.floats(width=32, allow_nan=False),
    ),
    min_size=1, max_size=40,
)  # fmt: skip
SCHEMA = pa.schema([("i", pa.int64()), ("s", pa.string()), ("b", pa.bool_()), ("f", pa.float32())])


def digest(rows: list[tuple[Any, ...]], cut: int) -> str:
    """The hash of rows that come in batches of `cut`, with a block size of 7."""
    columns = [
        pa.array(column, field.type)
        for column, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)
    ]
    whole = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    hashed = ContentHash(SCHEMA)
    for block in blocks((whole.slice(i, cut) for i in range(0, len(rows), cut)), SCHEMA, 7):
        hashed.add(block)
    return hashed.hexdigest()


@settings(deadline=None)
@given(ROWS, st.integers(1, 45), st.integers(1, 45))
def test_the_hash_does_not_see_batches(rows: list[tuple[Any, ...]], a: int, b: int) -> None:
    assert digest(rows, a) == digest(rows, b)


@settings(deadline=None)
@given(ROWS, ROWS)
def test_different_rows_have_different_hashes(a: list[Any], b: list[Any]) -> None:
    assert (digest(a, 5) == digest(b, 5)) is (repr(a) == repr(b))


def test_missing_zero_and_empty_are_told_apart() -> None:
    rows = [(0, "", False, 0.0), (None, "", False, 0.0), (0, None, False, 0.0),
            (0, "", None, 0.0), (0, "", False, None)]  # fmt: skip
    assert len({digest([row], 1) for row in rows}) == len(rows)
    assert digest([(1, "ab", True, 1.0), (1, "c", True, 1.0)], 1) != digest(
        [(1, "a", True, 1.0), (1, "bc", True, 1.0)], 1
    )
