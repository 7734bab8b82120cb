"""A spec inferred from any table parses, and says why what is not in it is not."""

import datetime as dt
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from heliotrope.errors import UsageError
from heliotrope.service.scaffold import Scaffold, friendly_bounds, infer_spec
from heliotrope.service.scaffold_label import Hints
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.vocabulary import Task

SOURCE = {"path": "data/rows.parquet"}
ROWS = 400
RNG = np.random.default_rng(5)
LABEL = [i % 4 == 0 for i in range(ROWS)]


def infer(columns: dict[str, Any], **hints: str) -> Scaffold:
    return infer_spec(ibis.memtable(pa.table(columns)), "mine", SOURCE, Hints(**hints))


def spec_of(columns: dict[str, Any], **hints: str) -> ModelSpec:
    return parse_spec(infer(columns, **hints).text)


def noise() -> list[float]:
    return [float(v) for v in RNG.normal(size=ROWS)]


def feature(column: Any) -> dict[str, Any]:
    spec = spec_of({"x": column, "other": noise(), "label": LABEL})
    (found,) = [f for f in spec.features if f.name == "x"]
    return found.model_dump(exclude_defaults=True)


def as_text(values: list[Any]) -> list[str]:
    return ["" if v is None else str(v) for v in values]


WHOLE = [None if i % 10 == 3 else (i * 7) % 43 for i in range(ROWS)]
REAL = [((i * 7) % 43) / 4 - 3 for i in range(ROWS)]
WORDS = [["low", "high", "yes: #1", "NO"][(i * 7) % 4 if i % 3 else 2] for i in range(ROWS)]
FLAGS = [bool((i * 7) % 3) for i in range(ROWS)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (WHOLE, {"type": "integer", "min": 0.0, "max": 70.0, "nullable": True}),
        (REAL, {"type": "float", "min": -10.0, "max": 20.0}),
        (FLAGS, {"type": "boolean"}),
        (WORDS, {"type": "category", "categories": ("NO", "high", "low", "yes: #1")}),
    ],
    ids=["whole", "real", "flags", "words"],
)
@pytest.mark.parametrize("stored_as", ["typed", "text"])
def test_types_bounds_and_categories_are_inferred_from_values_and_from_text(
    values: list[Any], expected: dict[str, Any], stored_as: str
) -> None:
    found = feature(values if stored_as == "typed" else as_text(values))
    assert found == {"name": "x", **expected}


def test_whole_numbers_with_missing_values_stored_as_floats_are_integers() -> None:
    assert feature([None if v is None else float(v) for v in WHOLE])["type"] == "integer"


DAYS = [f"2024-{1 + i // 28 % 12:02}-{1 + i % 28:02}" for i in range(ROWS)]


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("weird name", noise(), "rename it"),
        ("naïve", noise(), "rename it"),
        ("_row", noise(), "reserved"),
        ("empty", pa.nulls(ROWS), "every value is missing"),
        ("blank", pa.array([None] * ROWS, pa.float64()), "every value is missing"),
        ("same", ["only"] * ROWS, "constant: always 'only'"),
        ("free", [f"text {i}" for i in range(ROWS)], "400 different texts"),
        ("mixed", [str(i) if i % 50 else "oops" for i in range(ROWS)], "not all: 'oops'"),
        ("number", [10**9 + 7919 * i for i in range(ROWS)], "looks like an identifier"),
        ("endless", [np.inf if i == 9 else float(i % 11) for i in range(ROWS)], "1 values are inf"),
        ("list", [[i] for i in range(ROWS)], "neither text, number, boolean nor time"),
        ("copy", LABEL, "tells the label by itself"),
        ("after", [float(v) + 0.1 * i / ROWS for i, v in enumerate(LABEL)], "tells the label"),
        ("enormous", [1e300 * (i % 7) for i in range(ROWS)], "beyond float32"),
    ],
)
def test_what_cannot_be_a_feature_is_left_out_with_the_reason(
    name: str, values: Any, why: str
) -> None:
    scaffold = infer({name: values, "x": noise(), "label": LABEL}, label="label")
    assert parse_spec(scaffold.text).feature_names == ["x"]
    assert why in scaffold.left_out[name]
    assert "# Left out:" in scaffold.text


def test_large_whole_numbers_that_are_no_identifier_become_floats_with_a_comment() -> None:
    scaffold = infer(
        {"x": [20_000_000 + 1000 * (i % 20) for i in range(ROWS)], "label": LABEL}, label="label"
    )
    (found,) = parse_spec(scaffold.text).features
    assert found.type == "float"
    assert "rounded to 7 digits" in scaffold.text


def test_label_key_and_time_are_guessed_and_the_guesses_are_said() -> None:
    scaffold = infer({"id": list(range(ROWS)), "day": DAYS, "x": noise(), "churned": LABEL})
    spec = parse_spec(scaffold.text)
    assert (spec.entity_key, spec.event_time, spec.label.name) == ("id", "day", "churned")
    assert spec.label.positive is True
    assert spec.feature_names == ["x"]
    assert len(scaffold.notes) == 4


def test_hints_beat_guesses() -> None:
    columns = {
        "id": list(range(ROWS)),
        "no": [f"n{i}" for i in range(ROWS)],
        "a": DAYS,
        "b": DAYS,
        "x": noise(),
        "label": LABEL,
        "grade": [["good", "poor"][i % 2] for i in range(ROWS)],
    }
    spec = spec_of(columns, label="grade", positive="good", key="no", time="b")
    assert (spec.entity_key, spec.event_time, spec.label.name) == ("no", "b", "grade")
    assert spec.label.positive == "good"


@pytest.mark.parametrize(
    ("values", "task", "label"),
    [
        ([i % 2 for i in range(ROWS)], Task.BINARY, {"positive": 1}),
        ([str(i % 2) for i in range(ROWS)], Task.BINARY, {"positive": 1}),
        ([float(i % 2) for i in range(ROWS)], Task.BINARY, {"positive": 1}),
        ([1 + (i % 3 == 0) for i in range(ROWS)], Task.BINARY, {"positive": 2, "negative": 1}),
        (["True" if v else "False" for v in LABEL], Task.BINARY, {"positive": True}),
        (
            ["yes" if v else "no" for v in LABEL],
            Task.BINARY,
            {"positive": "yes", "negative": "no"},
        ),
        (
            ["b" if v else "a" for v in LABEL],
            Task.BINARY,
            {"positive": "b", "negative": "a"},
        ),
        (
            [["c", "a", "b"][i % 3] for i in range(ROWS)],
            Task.MULTICLASS,
            {"classes": ("a", "b", "c")},
        ),
        ([float(i % 3) for i in range(ROWS)], Task.MULTICLASS, {"classes": ("0", "1", "2")}),
        ([i / 7 for i in range(ROWS)], Task.REGRESSION, {}),
    ],
)
def test_the_task_follows_from_the_label(
    values: list[Any], task: Task, label: dict[str, Any]
) -> None:
    spec = spec_of({"x": noise(), "y": values})
    assert spec.task is task
    assert spec.label.model_dump(exclude_defaults=True) == {"name": "y", **label}


@pytest.mark.parametrize(
    ("columns", "hints", "message"),
    [
        ({"a": FLAGS, "b": LABEL, "c": noise()}, {}, r"none can be guessed. Candidates: a, b\."),
        ({"a": FLAGS}, {"label": "z"}, r"--label must name a column, one of a. Got z"),
        ({"a": noise(), "y": LABEL}, {"time": "a"}, r"--time must name a column with a time"),
        ({"a": FLAGS, "y": LABEL}, {"key": "a"}, r"--key must .* unique.*2 different values"),
        ({"a": noise(), "y": LABEL}, {"positive": "maybe"}, r"--positive must be one of .* maybe"),
        ({"a": noise(), "y": [1] * ROWS}, {"label": "y"}, r"y must have two or more values. Got 1"),
        ({"y": LABEL}, {}, r"must have a column to learn from"),
        ({"a": noise(), "y": [f"t{i}" for i in range(ROWS)]}, {"label": "y"}, r"at most 20 cla"),
    ],
)
def test_what_cannot_be_inferred_is_refused_with_what_to_say(
    columns: dict[str, Any], hints: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        infer(columns, **hints)


def test_a_bad_model_name_is_refused() -> None:
    table = ibis.memtable(pa.table({"x": noise(), "y": LABEL}))
    with pytest.raises(UsageError, match=r"lower-case letters.* Got My Model"):
        infer_spec(table, "My Model", SOURCE, Hints())


def test_a_label_sorted_in_a_file_without_times_is_told_to_be_shuffled() -> None:
    columns = {"x": noise(), "y": ["a"] * 300 + ["b"] * 100}
    assert any(note.startswith("Shuffle") for note in infer(columns).notes)
    columns["y"] = ["b" if v else "a" for v in LABEL]
    assert not any(note.startswith("Shuffle") for note in infer(columns).notes)


@example(low=0.0, span=5e-324, integer=False)
@given(
    low=st.floats(-1e30, 1e30),
    span=st.floats(0, 1e30),
    integer=st.booleans(),
)
def test_bounds_hold_what_was_seen_and_keep_its_sign(
    low: float, span: float, integer: bool
) -> None:
    if integer:
        low, span = float(round(low % 2e7 - 1e7)), float(round(span % 5e6))
    high = low + span
    lowest, highest = friendly_bounds(low, high, integer)
    assert lowest <= low <= high <= highest
    assert not (low >= 0 and lowest < 0)
    assert not (high <= 0 and highest > 0)


NAMES = st.text(min_size=1, max_size=12).filter(lambda n: n.isprintable() or "\n" in n) | (
    st.sampled_from(["a b", "größe", "# x", "x: y", "'", "_row", "yes", "null", "a\u2028b", "1st"])
)
CELL = st.one_of(
    st.none(),
    st.integers(-(2**62), 2**62),
    st.floats(),
    st.booleans(),
    st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)),
    st.sampled_from(
        ["", "NA", " ", "yes", "no", "1", "1e3", "2024-01-05", "a\nb", "epoch", "\x07"]
    ),
    st.text(max_size=5),
)
KINDS = [
    (pa.int64(), st.none() | st.integers(-(2**62), 2**62)),
    (pa.int64(), st.integers(0, 3)),
    (pa.float64(), st.none() | st.floats()),
    (pa.float32(), st.none() | st.floats(width=32)),
    (pa.bool_(), st.none() | st.booleans()),
    (pa.date32(), st.none() | st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1))),
    (pa.null(), st.none()),
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 25))
    names = draw(
        st.lists(NAMES, min_size=1, max_size=5, unique_by=str.casefold).filter(
            lambda found: "label" not in {n.casefold() for n in found}
        )
    )
    columns: dict[str, pa.Array] = {}
    for name in names:
        kind, cells = draw(st.sampled_from([*KINDS, (pa.string(), CELL)]))
        values = draw(st.lists(cells, min_size=rows, max_size=rows))
        if kind == pa.string():
            values = [None if v is None else str(v) for v in values]
        columns[name] = pa.array(values, kind)
    label = draw(st.lists(st.sampled_from(["a", "b", None]), min_size=rows, max_size=rows))
    return pa.table({**columns, "label": pa.array(label, pa.string())})


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(table=tables())
def test_any_table_gives_a_spec_that_parses_or_a_message(table: pa.Table) -> None:
    try:
        scaffold = infer_spec(ibis.memtable(table), "mine", SOURCE, Hints(label="label"))
    except UsageError:
        return
    spec = parse_spec(scaffold.text)
    reserved = {spec.label.name, spec.entity_key, spec.event_time}
    accounted = set(spec.feature_names) | set(scaffold.left_out) | reserved - {None}
    assert accounted == set(table.column_names)
