"""Rows as people send them, and the matrix the model reads."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.domain.encoding import (
    FEW_ROWS,
    InputRefused,
    RowEncoder,
    cell_problem,
    encode_rows,
    key_text,
    show_value,
)
from heliotrope.domain.serving import ServingContract
from heliotrope.spec.features import Feature, FeatureType
from heliotrope.vocabulary import Task

FEATURES = (
    Feature(name="income", type=FeatureType.FLOAT, min=0, max=1e6),
    Feature(name="ratio", type=FeatureType.FLOAT, nullable=True),
    Feature(name="age", type=FeatureType.INTEGER, min=18, max=100),
    Feature(name="accounts", type=FeatureType.INTEGER, nullable=True),
    Feature(name="grade", type=FeatureType.CATEGORY, categories=("A", "B", "C")),
    Feature(name="job", type=FeatureType.CATEGORY, categories=("x", "y"), nullable=True),
    Feature(name="home", type=FeatureType.BOOLEAN),
)
CONTRACT = ServingContract(
    model="loans",
    task=Task.BINARY,
    features=FEATURES,
    classes=("no", "yes"),
    threshold=0.5,
    entity_key="loan",
)
GOOD: dict[str, Any] = {
    **{"income": 1000.5, "ratio": -2.25, "age": 30, "accounts": 4},
    **{"grade": "B", "job": "y", "home": True},
}
ENCODED = [1000.5, -2.25, 30, 4, 1, 1, 1]


def test_each_type_is_encoded_as_the_contract_says() -> None:
    matrix = encode_rows(CONTRACT, [GOOD])
    assert matrix.dtype == np.float32
    assert matrix.tolist() == [ENCODED]


def test_lists_and_named_rows_give_the_same_bits() -> None:
    encoder = RowEncoder(CONTRACT)
    rows, keys = encoder.named([GOOD, {**GOOD, "age": 31}])
    assert keys is None
    assert (
        encoder.matrix(rows).tobytes()
        == encode_rows(CONTRACT, [GOOD, {**GOOD, "age": 31}]).tobytes()
    )


def test_a_nullable_column_that_is_null_or_left_out_is_missing() -> None:
    without = {k: v for k, v in GOOD.items() if k not in ("ratio", "job", "accounts")}
    nulls = {**GOOD, "ratio": None, "job": None, "accounts": None}
    for row in (without, nulls, {**nulls, "ratio": math.nan}):
        missing = np.isnan(encode_rows(CONTRACT, [row])[0])
        assert missing.tolist() == [False, True, False, True, False, True, False]


def test_numpy_scalars_are_the_numbers_they_are() -> None:
    row = {**GOOD, "income": np.float32(1000.5), "age": np.int64(30), "home": np.bool_(True)}
    assert encode_rows(CONTRACT, [row]).tolist() == [ENCODED]


def test_no_rows_give_no_rows() -> None:
    assert encode_rows(CONTRACT, []).shape == (0, 7)


BAD: list[tuple[str, Any, str]] = [
    ("income", -0.01, "instances[1].income must be between 0 and 1e+06. Got -0.01."),
    ("income", 1e7, "instances[1].income must be between 0 and 1e+06. Got 10000000.0."),
    ("income", None, "instances[1].income must be given: it may not be missing. Got null."),
    ("income", "12", 'instances[1].income must be a number. Got "12".'),
    ("income", True, "instances[1].income must be a number. Got true."),
    ("income", [1], "instances[1].income must be a number. Got a list of 1."),
    ("income", {}, "instances[1].income must be a number. Got an object of 0."),
    ("income", math.inf, "instances[1].income must be between 0 and 1e+06. Got Infinity."),
    ("ratio", 1e39, "instances[1].ratio must be a finite number that fits float32. Got 1e+39."),
    ("ratio", 10**400, "must be a finite number that fits float32. Got 1000"),
    ("age", 30.5, "instances[1].age must be a whole number. Got 30.5."),
    ("age", 17, "instances[1].age must be between 18 and 100. Got 17."),
    ("accounts", 2**24 + 1, "must be between -16777216 and 16777216, where float32 is exact"),
    ("grade", "D", 'instances[1].grade must be one of A, B, C. Got "D".'),
    ("grade", "a", 'instances[1].grade must be one of A, B, C. Got "a".'),
    ("grade", 1, "instances[1].grade must be one of A, B, C. Got 1."),
    ("grade", ["A"], "instances[1].grade must be one of A, B, C. Got a list of 1."),
    ("grade", None, "instances[1].grade must be given: it may not be missing. Got null."),
    ("job", "z" * 500, f'instances[1].job must be one of x, y. Got "{"z" * 40}...'),
    ("home", "true", 'instances[1].home must be true or false. Got "true".'),
    ("home", 2, "instances[1].home must be true or false. Got 2."),
    ("home", None, "instances[1].home must be given"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_bad_value_is_refused_by_row_field_bound_and_value(
    name: str, value: Any, message: str
) -> None:
    with pytest.raises(InputRefused) as refused:
        encode_rows(CONTRACT, [GOOD, {**GOOD, name: value}, GOOD])
    assert message in str(refused.value)
    assert len(str(refused.value)) < 200


def test_a_missing_and_an_unknown_column_are_named() -> None:
    with pytest.raises(InputRefused, match=r"instances\[0\].age must be given"):
        encode_rows(CONTRACT, [{k: v for k, v in GOOD.items() if k != "age"}])
    with pytest.raises(InputRefused, match=r"instances\[1\].agee must be left out"):
        encode_rows(CONTRACT, [GOOD, {**GOOD, "agee": 1}])


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(InputRefused, match=r"instances\[1\] must hold 7 values.* Got 6\."):
        RowEncoder(CONTRACT).matrix([list(GOOD.values()), list(GOOD.values())[:-1]])


def test_many_problems_are_named_up_to_a_limit_and_counted() -> None:
    with pytest.raises(InputRefused) as refused:
        encode_rows(CONTRACT, [{**GOOD, "age": 5}] * 9)
    assert len(refused.value.problems) == 5
    assert str(refused.value).endswith("And 4 more.")


def test_bounds_are_checked_before_rounding_to_float32() -> None:
    barely = math.nextafter(1e6, 2e6)
    assert np.float32(barely) == np.float32(1e6)
    with pytest.raises(InputRefused, match="income"):
        encode_rows(CONTRACT, [{**GOOD, "income": barely}])


def test_entity_keys_are_taken_aside_and_never_scored() -> None:
    rows, keys = RowEncoder(CONTRACT).named([{**GOOD, "loan": "L-1"}, {**GOOD, "loan": 7}, GOOD])
    assert keys == ["L-1", "7", None]
    assert all(len(row) == 7 for row in rows)


@pytest.mark.parametrize("value", [1.5, True, ["a"], {"a": 1}, "k" * 201])
def test_a_bad_entity_key_is_refused(value: Any) -> None:
    with pytest.raises(InputRefused, match="loan must be text of at most 200 characters"):
        key_text(value, "loan")


def test_what_a_message_repeats_is_short_whatever_was_sent() -> None:
    for value in ("a" * 10_000, [0] * 10_000, 10**300, {"a": "b" * 999}):
        assert len(show_value(value)) < 60


CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**30), 2**30),
    st.integers(0, 120),
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(0, 100).map(lambda value: float(round(value))),
    st.sampled_from(["A", "B", "x", "y", "", "other"]),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(FEATURES) - 1), CELLS, st.sampled_from([1, FEW_ROWS, FEW_ROWS + 1]))
def test_the_quick_checks_and_the_explained_one_agree(index: int, value: Any, count: int) -> None:
    row = list(GOOD.values())
    row[index] = value
    must = cell_problem(FEATURES[index], value)
    encoder = RowEncoder(CONTRACT)
    rows = [list(GOOD.values())] * (count - 1) + [row]
    if must is None:
        assert encoder.matrix(rows).shape == (count, 7)
    else:
        with pytest.raises(InputRefused) as refused:
            encoder.matrix(rows)
        assert refused.value.problems[0].field == f"instances[{count - 1}].{FEATURES[index].name}"


@settings(max_examples=200, deadline=None)
@given(
    st.floats(0, 1e6), st.one_of(st.none(), st.floats(-3e38, 3e38), st.integers(-(2**70), 2**70))
)
def test_a_row_is_encoded_to_the_same_bits_alone_and_in_a_batch(income: float, ratio: Any) -> None:
    encoder = RowEncoder(CONTRACT)
    row = [income, ratio, 30, None, "C", None, False]
    alone, batch = encoder.matrix([row]), encoder.matrix([row] * (FEW_ROWS + 1))
    assert batch.tobytes() == alone.tobytes() * (FEW_ROWS + 1)
