"""The checks on their own: numbers in, findings out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from heliotrope.domain.checks.compare import (
    chi_square_p,
    js_distance,
    kolmogorov_p,
    scale_factor,
    wasserstein_effect,
)
from heliotrope.domain.checks.label import two_proportions
from heliotrope.domain.checks.leakage import leak, roc_auc
from heliotrope.domain.quality import ColumnProfile
from heliotrope.vocabulary import Task


def quantiles(values: np.ndarray) -> tuple[float, ...]:
    """The 101 quantiles a profile holds."""
    return tuple(np.quantile(values, np.linspace(0, 1, 101)).tolist())


def number(values: np.ndarray) -> ColumnProfile:
    """The profile of a numeric column."""
    return ColumnProfile(
        name="x", type="float32", rows=len(values), nulls=0, distinct=9,
        sd=float(np.std(values)), quantiles=quantiles(values),
    )  # fmt: skip


def draw(seed: int, rows: int = 5000) -> np.ndarray:
    """Standard normal numbers."""
    return np.random.default_rng(seed).normal(size=rows)


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: len({hit for _, hit in rows}) == 2
    )
)
def test_auc_agrees_with_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], dtype=float)
    hits = np.array([hit for _, hit in rows])
    assert roc_auc(scores, hits) == pytest.approx(roc_auc_score(hits, scores))


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 1), min_size=1),
       st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 1), min_size=1))  # fmt: skip
def test_js_distance_is_a_symmetric_share(here: dict[str, float], there: dict[str, float]) -> None:
    p = {name: value / sum(here.values()) for name, value in here.items()}
    q = {name: value / sum(there.values()) for name, value in there.items()}
    assert 0 <= js_distance(p, q) <= 1 + 1e-9
    assert js_distance(p, q) == pytest.approx(js_distance(q, p), abs=1e-9)
    assert js_distance(p, p) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.25, 1.0])
def test_a_shift_in_standard_deviations_is_its_own_effect(shift: float) -> None:
    effect = wasserstein_effect(number(draw(1, 50_000) + shift), number(draw(2, 50_000)))
    assert effect == pytest.approx(shift, abs=0.05)


def test_one_absurd_value_is_no_effect() -> None:
    values = draw(1)
    values[0] = 1e9
    assert wasserstein_effect(number(values), number(draw(2))) < 0.1
    assert wasserstein_effect(number(draw(2)), number(values)) < 0.1


@pytest.mark.parametrize(("now", "moved"), [(1.0, False), (1.0001, False), (1.5, True)])
def test_a_constant_reference_moves_only_when_it_is_left(now: float, moved: bool) -> None:
    effect = wasserstein_effect(number(np.full(100, now)), number(np.full(100, 1.0)))
    assert (effect > 0) is moved


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([200, 1000, 5000]))
def test_samples_of_one_distribution_are_never_significant_at_a_shared_level(
    seed: int, rows: int
) -> None:
    first, second = draw(seed, rows), draw(seed + 1_000_003, rows)
    assert kolmogorov_p(quantiles(first), quantiles(second), rows, rows) > 1e-4


def test_a_real_shift_is_significant() -> None:
    assert kolmogorov_p(quantiles(draw(1)), quantiles(draw(2) + 0.25), 5000, 5000) < 1e-6


def test_sparse_categories_are_merged_before_they_are_tested() -> None:
    many = {f"v{i}": 1 / 500 for i in range(500)}
    other = {f"w{i}": 1 / 500 for i in range(500)}
    assert chi_square_p(many, 500, other, 500) == 1.0
    assert chi_square_p({"a": 0.9, "b": 0.1}, 500, {"a": 0.5, "b": 0.5}, 500) < 1e-9


@pytest.mark.parametrize("factor", [0.001, 1.0, 1000.0])
def test_the_scale_factor_is_found_in_columns_with_zeros_and_signs(factor: float) -> None:
    values = np.where(draw(1) > 0, draw(3), 0.0)
    assert scale_factor(quantiles(values * factor), quantiles(values)) == pytest.approx(factor)


def test_a_column_of_zeros_has_no_scale() -> None:
    assert scale_factor(quantiles(np.zeros(9)), quantiles(draw(1))) is None


def test_equal_shares_are_no_change_and_empty_ones_say_nothing() -> None:
    assert two_proportions(10, 100, 100, 1000) == pytest.approx(1.0)
    assert two_proportions(0, 0, 5, 10) == 1.0
    assert two_proportions(0, 10, 0, 10) == 1.0


def score(values: np.ndarray, labels: np.ndarray, task: Task, category: bool = False) -> float:
    """The leakage score."""
    found = leak(values.astype(float), labels.astype(float), task, category)
    assert found is not None
    return found.score


def test_a_unique_category_on_every_row_is_no_leak() -> None:
    labels = (draw(1) > 1).astype(float)
    assert score(np.arange(5000), labels, Task.BINARY, category=True) < 0.6
    frequent = np.repeat(np.arange(2500), 2)[np.random.default_rng(0).permutation(5000)]
    assert score(frequent, labels, Task.BINARY, category=True) < 0.6


def test_noise_is_no_leak_in_any_task() -> None:
    assert score(draw(1), (draw(2) > 1), Task.BINARY) < 0.6
    assert score(draw(1), np.digitize(draw(2), [-1, 1]), Task.MULTICLASS) < 0.6
    assert score(draw(1), draw(2), Task.REGRESSION) < 0.2


@pytest.mark.parametrize("category", [False, True])
def test_the_label_itself_leaks_in_every_task(category: bool) -> None:
    binary, classes = (draw(1) > 1).astype(float), np.digitize(draw(2), [-1, 1]).astype(float)
    assert score(binary, binary, Task.BINARY, category) > 0.999
    shuffled = np.array([2.0, 0.0, 1.0])[classes.astype(int)]
    assert score(shuffled, classes, Task.MULTICLASS, category) > 0.999
    found = leak(shuffled, classes, Task.MULTICLASS, category)
    assert found is not None
    assert found.equal


def test_a_monotone_image_of_a_number_leaks_it() -> None:
    labels = draw(1)
    assert score(-np.exp(labels), labels, Task.REGRESSION) > 0.999


def test_a_number_that_leaks_by_its_distance_from_the_middle_is_found() -> None:
    values = draw(1)
    assert score(values, np.abs(values) > 1, Task.BINARY) > 0.98


def test_separating_one_of_three_classes_is_no_leak() -> None:
    classes = np.digitize(draw(2), [-1, 1])
    values = np.where(classes == 0, -10, 0) + draw(3)
    assert score(values, classes, Task.MULTICLASS) < 0.95


def test_too_few_rows_of_a_class_say_nothing() -> None:
    labels = np.zeros(100)
    labels[:3] = 1
    assert leak(labels.copy(), labels, Task.BINARY, False) is None
