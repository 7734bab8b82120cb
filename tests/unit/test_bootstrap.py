"""Intervals cover what they say, differences are paired, and nothing is certain for free."""

import math

import numpy as np
import pytest
from scipy import stats

from heliotrope.domain import bootstrap
from heliotrope.domain.metrics import Answers


def drawn(rng, rows, rate=0.3, lift=1.0):
    labels = (rng.random(rows) < rate).astype(int)
    signal = rng.normal(lift * labels, 1)
    return labels, 1 / (1 + np.exp(-signal))


def intervals(answers, names, rng, resamples=300):
    draws = bootstrap.resample({"m": answers}, {"m": names}, rng, resamples)["m"]
    points = answers.values(names)
    rarest = int(np.bincount(answers.labels, minlength=2).min())
    effective = {"roc_auc": rarest, "accuracy": answers.rows}
    return {n: bootstrap.interval(points[n], draws[n], effective[n]) for n in names}


@pytest.mark.parametrize(("rows", "rate"), [(500, 0.3), (2000, 0.3), (1000, 0.04)])
def test_95_percent_intervals_cover_the_truth_about_95_times_in_100(rows, rate):
    rng = np.random.default_rng(rows)
    auc = stats.norm.cdf(1 / math.sqrt(2))
    accuracy = (1 - rate) * stats.norm.cdf(0) + rate * stats.norm.cdf(1)
    worlds, hits = 250, {"roc_auc": 0, "accuracy": 0}
    for _ in range(worlds):
        found = intervals(Answers.binary(*drawn(rng, rows, rate)), list(hits), rng)
        hits["roc_auc"] += found["roc_auc"].low <= auc <= found["roc_auc"].high
        hits["accuracy"] += found["accuracy"].low <= accuracy <= found["accuracy"].high
    # Three standard errors of 250 worlds at .95 are .041.
    for name, count in hits.items():
        assert 0.905 <= count / worlds <= 0.995, (name, count / worlds)


@pytest.mark.parametrize(("rows", "rate"), [(600, 0.3), (1000, 0.03)])
def test_equal_models_are_called_different_no_more_often_than_the_confidence_allows(rows, rate):
    rng = np.random.default_rng(rows + 1)
    worlds, better = 300, 0
    for _ in range(worlds):
        labels, first = drawn(rng, rows, rate)
        second = 1 / (1 + np.exp(-rng.normal(labels, 1)))
        pair = {"a": Answers.binary(labels, first), "b": Answers.binary(labels, second)}
        draws = bootstrap.resample(pair, dict.fromkeys(pair, ("roc_auc",)), rng, 300)
        points = {k: v.values(["roc_auc"])["roc_auc"] for k, v in pair.items()}
        gap = bootstrap.difference(
            (points["a"], draws["a"]["roc_auc"]),
            (points["b"], draws["b"]["roc_auc"]),
            int(labels.sum()),
            0.95,
            greater_is_better=True,
        )
        better += gap.low > 0
    # .05 and two standard errors of 300 worlds.
    assert better / worlds <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / worlds)


def test_the_difference_of_a_model_to_itself_is_exactly_zero():
    rng = np.random.default_rng(5)
    answers = Answers.binary(*drawn(rng, 400))
    draws = bootstrap.resample(
        {"a": answers, "b": answers}, dict.fromkeys("ab", ("roc_auc",)), rng, 100
    )
    point = answers.values(["roc_auc"])["roc_auc"]
    gap = bootstrap.difference(
        (point, draws["a"]["roc_auc"]), (point, draws["b"]["roc_auc"]), 100, 0.95, True
    )
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)


def test_pairing_is_narrower_than_two_intervals_apart():
    rng = np.random.default_rng(6)
    labels, scores = drawn(rng, 500)
    close = np.clip(scores + rng.normal(0, 0.01, 500), 0, 1)
    pair = {"a": Answers.binary(labels, scores), "b": Answers.binary(labels, close)}
    draws = bootstrap.resample(pair, dict.fromkeys(pair, ("roc_auc",)), rng, 300)
    own, other = draws["a"]["roc_auc"], draws["b"]["roc_auc"]
    assert np.std(own - other) < 0.2 * np.std(own)


@pytest.mark.parametrize("greater", [True, False])
def test_a_positive_difference_always_means_better(greater):
    low, high = np.full(50, 0.2), np.full(50, 0.3)
    better, worse = (high, low) if greater else (low, high)
    gap = bootstrap.difference((better[0], better), (worse[0], worse), 50, 0.95, greater)
    assert gap.value == pytest.approx(0.1)
    assert gap.low == pytest.approx(0.1)


def test_the_same_seed_gives_the_same_resamples_and_another_does_not():
    answers = Answers.binary(*drawn(np.random.default_rng(1), 200))
    found = [
        bootstrap.resample({"m": answers}, {"m": ["roc_auc"]}, np.random.default_rng(s), 20)["m"]
        for s in (7, 7, 8)
    ]
    assert np.array_equal(found[0]["roc_auc"], found[1]["roc_auc"])
    assert not np.array_equal(found[0]["roc_auc"], found[2]["roc_auc"])


def test_an_interval_over_too_many_undefined_resamples_is_undefined():
    answers = Answers.binary([1] + [0] * 99, np.linspace(0.9, 0.1, 100))
    draws = bootstrap.resample({"m": answers}, {"m": ["roc_auc"]}, np.random.default_rng(0), 200)[
        "m"
    ]["roc_auc"]
    assert np.isnan(draws).any()
    found = bootstrap.interval(1.0, draws, 100)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_one_row_of_a_class_has_no_interval():
    assert math.isnan(bootstrap.interval(0.5, np.full(50, 0.5), 1).low)


def test_an_undefined_value_has_no_interval():
    found = bootstrap.interval(math.nan, np.linspace(0, 1, 50), 50)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(("tail", "rows"), [(0.025, 20), (0.05, 30), (0.05, 2000), (0.01, 8)])
def test_widened_tails_are_those_of_students_t(tail, rows):
    quantile = stats.t.ppf(tail, rows - 1) * math.sqrt(rows / (rows - 1))
    assert bootstrap.expanded_tail(tail, rows) == pytest.approx(stats.norm.cdf(quantile), abs=2e-4)


@pytest.mark.parametrize(("right", "rows"), [(50, 50), (0, 200)])
def test_no_errors_at_all_is_not_certainty(right, rows):
    expected = stats.binomtest(right, rows).proportion_ci(0.95, method="exact")
    found = bootstrap.proportion_interval(right, rows)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_models_that_answered_different_rows_are_refused():
    pair = {"a": Answers.binary([0, 1], [0, 1]), "b": Answers.binary([0, 1, 1], [0, 1, 1])}
    with pytest.raises(ValueError, match=r"same rows.*\[2, 3\]"):
        bootstrap.resample(pair, dict.fromkeys(pair, ("accuracy",)), np.random.default_rng(0), 5)


def test_no_rows_give_undefined_resamples():
    empty = Answers.binary([], [])
    draws = bootstrap.resample({"m": empty}, {"m": ["accuracy"]}, np.random.default_rng(0), 5)
    assert np.isnan(draws["m"]["accuracy"]).all()


def test_a_bag_of_rows_gives_the_interval_of_the_whole(monkeypatch):
    answers = Answers.binary(*drawn(np.random.default_rng(4), 12_000))
    names = ["roc_auc", "accuracy"]
    whole = intervals(answers, names, np.random.default_rng(1), 400)
    monkeypatch.setattr(bootstrap, "BAG", 4_000)
    bagged = intervals(answers, names, np.random.default_rng(1), 400)
    for name in names:
        assert bagged[name].value == whole[name].value
        assert bagged[name].low != whole[name].low
        width = whole[name].high - whole[name].low
        assert bagged[name].high - bagged[name].low == pytest.approx(width, rel=0.25)
        assert bagged[name].low == pytest.approx(whole[name].low, abs=0.25 * width)


def test_a_class_too_rare_for_a_bag_resamples_the_whole(monkeypatch):
    answers = Answers.binary(*drawn(np.random.default_rng(4), 3000, rate=0.02))
    whole = intervals(answers, ["roc_auc"], np.random.default_rng(1), 50)
    monkeypatch.setattr(bootstrap, "BAG", 2_990)
    narrow = intervals(answers, ["roc_auc"], np.random.default_rng(1), 50)
    width = whole["roc_auc"].high - whole["roc_auc"].low
    assert narrow["roc_auc"].low == pytest.approx(whole["roc_auc"].low, abs=0.4 * width)
