"""Drift: effects as Evidently's, false alarms within the budget, and faults told in words."""

import decimal
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliotrope.domain.drift import DriftReport, DriftRule, ReferenceSketch, Words, judge_window
from heliotrope.domain.drift.classifier import JointSample, tell_apart
from heliotrope.domain.drift.documents import DriftState
from heliotrope.domain.drift.effect import jensen_shannon
from heliotrope.domain.drift.history import remember
from heliotrope.domain.drift.sketch import part_means, reference_of_window
from heliotrope.domain.drift.window import DriftWindow, window_of_raw
from heliotrope.domain.quality import Level
from heliotrope.service.monitoring_pages import drift_markdown
from heliotrope.spec import Feature, FeatureType
from heliotrope.vocabulary import Verdict

WORDS = ("red", "green", "blue", "grey")
FEATURES = (
    Feature(name="size", type=FeatureType.FLOAT, min=0, max=1e6),
    Feature(name="count", type=FeatureType.INTEGER, min=0, max=100),
    Feature(name="level", type=FeatureType.FLOAT, nullable=True),
    Feature(name="flag", type=FeatureType.BOOLEAN),
    Feature(name="colour", type=FeatureType.CATEGORY, categories=WORDS),
    Feature(name="fixed", type=FeatureType.FLOAT),
)


def rows(count: int, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    level = random.normal(size=count)
    level[random.random(count) < 0.1] = np.nan
    return {
        "size": random.lognormal(8, 0.7, count),
        "count": random.poisson(6, count),
        "level": level,
        "flag": random.random(count) < 0.3,
        "colour": random.choice(np.array(WORDS, dtype=object), count, p=[0.5, 0.3, 0.15, 0.05]),
        "fixed": np.ones(count),
    }


def window(columns: dict[str, Any], **more: Any) -> DriftWindow:
    return window_of_raw(FEATURES, columns, **more)


@pytest.fixture(scope="module")
def reference() -> ReferenceSketch:
    return reference_of_window(FEATURES, window(rows(20_000, seed=99)))


def judge(reference: ReferenceSketch, columns: dict[str, Any], **rule: Any) -> DriftReport:
    return judge_window(FEATURES, window(columns), reference, DriftRule(**rule))


def spoilt(name: str, values: Any, count: int = 1000) -> dict[str, Any]:
    return rows(count, seed=1) | {name: values}


def some(name: str, share: float, value: Any, count: int = 1000) -> dict[str, Any]:
    columns = rows(count, seed=1)
    changed = np.array(columns[name], dtype=object if isinstance(value, str) else float)
    changed[: int(share * count)] = value
    return columns | {name: changed}


def without(name: str, renamed: str | None = None) -> dict[str, Any]:
    columns = rows(1000, seed=1)
    values = columns.pop(name)
    return columns if renamed is None else columns | {renamed: values}


BROKEN: list[tuple[str, Callable[[], dict[str, Any]], str, str]] = [
    ("all null", lambda: spoilt("level", np.full(1000, np.nan)), "all_null", "All 1,000"),
    ("all infinite", lambda: spoilt("size", np.full(1000, np.inf)), "infinite", "1,000 of 1,000"),
    ("few infinite", lambda: some("size", 0.004, np.inf), "infinite", "4 of 1,000"),
    ("missing", lambda: without("size"), "missing_column", "not there"),
    ("renamed", lambda: without("colour", "color"), "missing_column", "renamed to color"),
    ("text", lambda: spoilt("size", ["n/a"] * 1000), "wrong_type", "'n/a', text, on 1,000"),
    ("one text", lambda: some("count", 0.001, "?"), "wrong_type", "on 1 of 1,000"),
    ("numbers", lambda: spoilt("colour", np.arange(1000)), "wrong_type", "a number"),
    ("new word", lambda: some("colour", 0.02, "pink"), "unknown_category", "'pink' on 20"),
    ("half null", lambda: some("level", 0.5, np.nan), "missing_share", "in the reference"),
    ("null", lambda: some("size", 0.01, np.nan), "null", "10 of 1,000"),
    ("stuck", lambda: spoilt("size", np.full(1000, 3000.0)), "stuck", "3000 on all 1,000"),
    ("stuck word", lambda: spoilt("colour", ["red"] * 1000), "stuck", "'red' on all"),
    ("default", lambda: some("size", 0.4, 3000.0), "spike", "40."),
    ("cents", lambda: spoilt("size", rows(1000, 1)["size"] * 100), "rescaled", "about x100"),
    ("beyond", lambda: some("size", 0.05, -1.0), "out_of_bounds", "50 of 1,000"),
    ("short", lambda: spoilt("size", np.ones(7)), "wrong_type", "have a value a row"),
    ("lists", lambda: spoilt("size", [[1], [2]] * 500), "wrong_type", "hold numbers"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "check", "says"),
    [pytest.param(make, check, says, id=name) for name, make, check, says in BROKEN],
)
def test_broken_rows_are_a_finding_and_never_an_exception(
    reference: ReferenceSketch, columns: Callable[[], dict[str, Any]], check: str, says: str
) -> None:
    report = judge(reference, columns())
    found = [fault for fault in report.fatal if fault.check == check]
    assert found, [fault.message for fault in report.faults]
    assert says in found[0].message
    assert report.data_verdict is Verdict.FAIL
    # What is left is still scored, and how much is said.
    assert report.expected == len(FEATURES)
    assert report.scored >= len(FEATURES) - 1
    assert DriftReport.from_json(report.to_json()).faults == report.faults


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("flag", np.array([True, None, False, True] * 250, dtype=object)),
        ("size", [decimal.Decimal("3000.5"), decimal.Decimal(2500)] * 500),
        ("level", [None, 1.0, 0.5, -1.0] * 250),
        ("count", pd.array([1, None, 7, 6] * 250, dtype="Int64")),
        ("colour", pd.Categorical(["red", "green", None, "blue"] * 250)),
        ("flag", np.array([0, 1, 0, 0] * 250)),
    ],
    ids=["bool with none", "decimal", "none", "Int64", "categorical", "flag as number"],
)
def test_the_types_that_columns_come_in_are_read(
    reference: ReferenceSketch, name: str, values: Any
) -> None:
    report = judge(reference, spoilt(name, values))
    column = report.column(name)
    assert column is not None
    assert math.isfinite(column.effect)
    assert not [fault for fault in report.fatal if fault.check == "wrong_type"]


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_few_rows_hold_and_say_how_many_it_takes(reference: ReferenceSketch, count: int) -> None:
    report = judge(reference, rows(count, seed=3))
    assert report.verdict is Verdict.HOLD
    assert not report.fatal
    assert "200" in report.reason or "no rows" in report.reason


def test_no_columns_at_all_is_a_finding_for_each_or_an_empty_window(
    reference: ReferenceSketch,
) -> None:
    report = judge(reference, {})
    assert report.verdict is Verdict.HOLD
    assert report.scored == 0


def test_swapped_columns_are_told_from_two_that_moved(reference: ReferenceSketch) -> None:
    features = (*FEATURES, Feature(name="other", type=FeatureType.FLOAT))
    both = rows(20_000, seed=9) | {"other": np.random.default_rng(1).normal(500, 50, 20_000)}
    known = reference_of_window(features, window_of_raw(features, both))
    live = rows(1000, seed=2)
    live |= {"other": live["level"], "level": np.random.default_rng(2).normal(500, 50, 1000)}
    report = judge_window(features, window_of_raw(features, live), known, DriftRule())
    assert [f.check for f in report.fatal if f.check == "swapped"] == ["swapped"]
    moved = rows(1000, seed=2) | {"other": np.random.default_rng(2).normal(600, 50, 1000)}
    report = judge_window(features, window_of_raw(features, moved), known, DriftRule())
    assert not report.fatal
    assert [c.column for c in report.drifted] == ["other"]


def test_one_absurd_value_is_counted_and_is_no_drift(reference: ReferenceSketch) -> None:
    columns = rows(1000, seed=4)
    columns["level"][0] = 1e9
    report = judge(reference, columns)
    column = report.column("level")
    assert column is not None
    assert column.effect < 0.1
    assert "1 outliers clipped" in column.text


@pytest.mark.parametrize(("value", "drifted"), [(1.0001, False), (1.5, True)])
def test_a_constant_has_moved_when_it_left_its_value(
    reference: ReferenceSketch, value: float, drifted: bool
) -> None:
    column = judge(reference, spoilt("fixed", np.full(1000, value))).column("fixed")
    assert column is not None
    assert (column.verdict is Verdict.FAIL) is drifted


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("size", lambda v: v * math.exp(0.35)),
        ("level", lambda v: v + 0.5),
        ("count", lambda v: v + 1),
        ("flag", lambda v: v | (np.arange(len(v)) % 2 == 0)),
    ],
)
def test_a_real_shift_is_called_by_name_with_its_numbers(
    reference: ReferenceSketch, name: str, change: Callable[[Any], Any]
) -> None:
    columns = rows(1000, seed=5)
    report = judge(reference, columns | {name: change(columns[name])})
    assert [column.column for column in report.drifted] == [name]
    assert report.verdict is Verdict.FAIL
    assert name in report.reason
    assert "p = " in report.reason


def test_what_may_be_chance_holds_and_says_which_rows_would_tell(
    reference: ReferenceSketch,
) -> None:
    columns = rows(60, seed=5)
    report = judge(reference, columns | {"level": columns["level"] + 0.35}, minimum_rows=50)
    column = report.column("level")
    assert column is not None
    assert column.verdict is Verdict.HOLD
    assert column.rows_needed is not None
    many = rows(2 * column.rows_needed, seed=6)
    again = judge(reference, many | {"level": many["level"] + 0.35}, minimum_rows=50)
    assert "level" in [one.column for one in again.drifted]


@pytest.mark.parametrize(("count", "windows"), [(50, 300), (200, 200), (1000, 100), (5000, 30)])
def test_false_alarms_stay_within_the_budget(
    reference: ReferenceSketch, count: int, windows: int
) -> None:
    live = window(rows(count * windows, seed=7))

    def part(n: int) -> DriftWindow:
        here = slice(n * count, (n + 1) * count)
        columns = {
            name: Words(c.codes[here], c.values) if isinstance(c, Words) else c[here]  # type: ignore[index]
            for name, c in live.columns.items()
        }
        return DriftWindow(count, columns)

    rule = DriftRule(minimum_rows=50)
    found = [judge_window(FEATURES, part(n), reference, rule) for n in range(windows)]
    called = sum(one.verdict is Verdict.FAIL or bool(one.fatal) for one in found)
    # Three standard errors above the budget of 1%.
    assert called <= 0.01 * windows + 3 * math.sqrt(0.01 * 0.99 * windows)


def test_important_features_get_more_of_the_budget() -> None:
    known = reference_of_window(FEATURES, window(rows(20_000, seed=1)), {"size": 0.9, "level": 0.1})
    report = judge_window(FEATURES, window(rows(500, seed=2)), known, DriftRule())
    budgets = {column.column: column.budget for column in report.columns}
    assert budgets["size"] > budgets["level"] > budgets["count"] > 0
    assert sum(budgets.values()) <= 0.01


def test_distances_are_evidentlys_on_all_rows() -> None:
    pytest.importorskip("evidently")
    from heliotrope.adapters.evidently_report import score_column

    before, now = rows(6000, seed=11), rows(3000, seed=12)
    now |= {
        "size": now["size"] * 1.3,
        "count": now["count"] + (np.arange(3000) % 3 == 0),
        "colour": np.where(np.arange(3000) % 7 == 0, "blue", now["colour"].astype(str)),
    }
    report = judge_window(
        FEATURES, window(now), reference_of_window(FEATURES, window(before)), DriftRule()
    )
    for name, words in (("size", False), ("count", False), ("level", False), ("colour", True)):
        column = report.column(name)
        assert column is not None
        theirs = score_column(column.method, before[name], now[name], words=words)
        assert column.effect == pytest.approx(theirs, abs=0.01), name


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 40))
def test_means_of_parts_keep_the_mean_and_the_order(values: list[float], parts: int) -> None:
    ordered = np.sort(np.array(values))
    means = part_means(ordered, parts)
    assert float(means.mean()) == pytest.approx(float(ordered.mean()), rel=1e-6, abs=1e-3)
    assert (np.diff(means) >= -1e-3).all()


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 50), min_size=1))
def test_the_distance_of_words_is_a_distance(counts: dict[str, int]) -> None:
    assert jensen_shannon(counts, counts) == 0
    other = {"z": 3}
    assert jensen_shannon(counts, other) == pytest.approx(math.sqrt(math.log(2)))


def test_a_classifier_finds_a_changed_dependence_that_no_column_shows() -> None:
    random = np.random.default_rng(0)
    first = random.normal(size=(3000, 4)).astype(np.float32)
    live = random.normal(size=(3000, 4)).astype(np.float32)
    auc, p, _ = tell_apart(JointSample(first, live))
    assert p > 0.001
    live[:, 1] = 0.8 * live[:, 0] + 0.6 * live[:, 1]
    auc, p, _ = tell_apart(JointSample(first, live))
    assert auc > 0.6
    assert p < 1e-6


def test_a_classifier_keeps_its_part_of_the_budget_and_adds_its_row(
    reference: ReferenceSketch,
) -> None:
    random, called = np.random.default_rng(8), 0
    held = random.normal(size=(1500, 6)).astype(np.float32)
    for seed in range(150):
        live = random.normal(size=(1000, 6)).astype(np.float32)
        report = judge_window(
            FEATURES, window(rows(1000, 500 + seed)), reference,
            DriftRule(multivariate=True, false_alarm=0.05), joint=JointSample(held, live),
        )  # fmt: skip
        found = report.column("rows")
        assert found is not None
        assert found.budget == pytest.approx(0.005)
        called += found.verdict is Verdict.FAIL
    assert called <= 4
    # Told that features may use all of it, the columns would overspend.
    assert sum(c.budget for c in report.columns) <= 0.05 + 1e-9


def test_the_error_of_a_sample_is_stated_and_holds() -> None:
    random = np.random.default_rng(9)
    whole, rows_, beyond = np.sort(random.lognormal(0, 2, 40_000)), 1000, 0
    stated = report_of(0, Verdict.PASS, rows_=rows_).model_copy(update={"sampled_from": 40_000})
    error = stated.sampling_error
    assert error is not None
    assert error == pytest.approx(0.0515, abs=1e-4)
    for _ in range(400):
        sample = np.sort(random.choice(whole, rows_, replace=False))
        share = np.searchsorted(whole, sample, side="right") / len(whole)
        beyond += np.abs(share - np.arange(1, rows_ + 1) / rows_).max() > error
    assert beyond <= 10
    assert report_of(0, Verdict.PASS).sampling_error is None
    assert "even sample of 40,000: shares within 5.15% of all rows'" in drift_markdown(stated)


def report_of(day: int, verdict: Verdict, *, version: str = "1", rows_: int = 500) -> DriftReport:
    start = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=day)
    return DriftReport(
        model="m", version=version, window_from=start, window_to=start + timedelta(days=1),
        rows=rows_, reference_rows=10_000, rule=DriftRule(), verdict=verdict, reason="because",
        score=0.1, columns=(), scored=0, expected=0, smallest_shift=0.2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("verdicts", "called"),
    [
        ("F", False),
        ("FF", True),
        ("FPF", True),
        ("FFP", False),
        ("FPPF", False),
        ("FHF", True),
        ("FHHF", False),
        ("HHH", False),
    ],
)
def test_drift_is_called_on_k_of_the_last_n_and_the_latest(verdicts: str, called: bool) -> None:
    state = DriftState(model="m", version="1")
    names = {"F": Verdict.FAIL, "P": Verdict.PASS, "H": Verdict.HOLD}
    for day, letter in enumerate(verdicts):
        state = remember(state, report_of(day, names[letter]), k=2, n=3)
    assert state.called is called


def test_a_window_looked_at_twice_counts_once_and_a_new_version_starts_anew() -> None:
    state = DriftState(model="m", version="1")
    for _ in range(3):
        state = remember(state, report_of(0, Verdict.FAIL), k=2, n=3)
    assert not state.called
    state = remember(state, report_of(1, Verdict.FAIL), k=2, n=3)
    assert state.called
    state = remember(state, report_of(2, Verdict.FAIL, version="2"), k=2, n=3)
    assert not state.called
    assert len(state.windows) == 1


def test_missing_more_often_among_values_that_moved_too_is_only_warned_of(
    reference: ReferenceSketch,
) -> None:
    columns = rows(1000, seed=8)
    columns["level"][:250] = np.nan
    assert [f.check for f in judge(reference, columns).fatal] == ["missing_share"]
    moved = judge(reference, columns | {"level": columns["level"] - 1.0})
    assert [(f.check, f.level) for f in moved.faults] == [("missing_share", Level.WARNING)]
