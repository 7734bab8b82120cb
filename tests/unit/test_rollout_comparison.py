"""Losses, always-valid comparisons and rates of a rollout, against theory and by simulation."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.domain.outcomes import Outcomes, PairedOutcomes
from heliotrope.domain.rollout.betting import (
    interval,
    log_wealth_above,
    log_wealth_below,
    wealth_path_above,
)
from heliotrope.domain.rollout.comparison import compare_apart, compare_pairs
from heliotrope.domain.rollout.loss import LossKind, loss_for, scale_of_errors
from heliotrope.domain.rollout.rates import log_e_rate_above
from heliotrope.spec import ModelSpec, parse_spec

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LIMIT = math.log(20)
SPEC = """
name: m
task: {task}
label: {{name: y{label}}}
source: {{path: a.csv}}
metrics: {{primary: {primary}}}
features: [{{name: x, type: float}}]
gates: {{{gates}}}
"""
LABEL = {
    "binary": ", positive: 1",
    "multiclass": ", classes: [a, b, c]",
    "regression": "",
}


def spec(primary: str = "accuracy", task: str = "binary", gates: str = "") -> ModelSpec:
    return parse_spec(SPEC.format(primary=primary, task=task, label=LABEL[task], gates=gates))


def times(count: int) -> Any:
    first = np.datetime64("2026-02-01T00:00:00", "us")
    return first + np.arange(count) * np.timedelta64(60, "s")


def pairs(champion: Any, candidate: Any, label: Any, shuffle: int | None = None) -> PairedOutcomes:
    """Scores of both; a class is called from one half on."""
    count = len(label)
    made = PairedOutcomes(
        prediction_id=np.array([f"r{n:06d}/0" for n in range(count)], dtype=object),
        predicted_at=times(count),
        champion_prediction=(np.asarray(champion) >= 0.5).astype(np.int32),
        candidate_prediction=(np.asarray(candidate) >= 0.5).astype(np.int32),
        champion_score=np.asarray(champion, float),
        candidate_score=np.asarray(candidate, float),
        champion_scores=None,
        candidate_scores=None,
        candidate_role=np.array(["shadow"] * count, dtype=object),
        label=np.asarray(label, float),
        label_received_at=times(count),
    )
    if shuffle is None:
        return made
    return made.where(np.random.default_rng(shuffle).permutation(count))


def right(share: float, label: Any, random: np.random.Generator) -> Any:
    """Scores that call the label right so often."""
    good = random.random(len(label)) < share
    return np.where(good == (label == 1), 0.9, 0.1)


@pytest.mark.parametrize(
    ("primary", "task", "kind"),
    [
        ("accuracy", "binary", LossKind.ZERO_ONE),
        ("roc_auc", "binary", LossKind.LOG_LOSS),
        ("log_loss", "multiclass", LossKind.LOG_LOSS),
        ("f1", "binary", LossKind.BRIER),
        ("brier", "binary", LossKind.BRIER),
        ("mae", "regression", LossKind.ABSOLUTE),
        ("rmse", "regression", LossKind.SQUARED),
    ],
)
def test_each_primary_metric_has_its_loss_and_says_so(
    primary: str, task: str, kind: LossKind
) -> None:
    loss = loss_for(spec(primary, task), 4.0)
    assert loss.kind is kind
    assert ": 1 is" in loss.text


def test_losses_are_what_they_say() -> None:
    called, score = np.array([1, 0], np.int32), np.array([0.8, 0.3])
    label = np.array([1.0, 1.0])
    assert loss_for(spec("accuracy"), None).of(called, score, None, label).tolist() == [0, 1]
    brier = loss_for(spec("brier"), None).of(called, score, None, label)
    assert brier == pytest.approx([0.04, 0.49])
    nats = loss_for(spec("log_loss"), None).of(called, score, None, label) * math.log(100)
    assert nats == pytest.approx([-math.log(0.8), -math.log(0.3)])
    scores = np.array([[0.2, 0.5, 0.3]])
    several = loss_for(spec("f1", "multiclass"), None)
    found = several.of(np.array([1], np.int32), np.array([0.5]), scores, np.array([2.0]))
    assert found == pytest.approx([(0.2**2 + 0.5**2 + 0.7**2) / 2])
    error = loss_for(spec("mae", "regression"), 4.0)
    found = error.of(np.zeros(3, np.int32), np.array([1.0, 9.0, np.nan]), None, np.zeros(3))
    assert found[:2].tolist() == [0.25, 1.0]
    assert math.isnan(found[2])


def test_tolerance_and_margin_are_converted_into_the_loss() -> None:
    assert loss_for(spec("accuracy", gates="tolerance: 0.01"), None).bound == -0.01
    assert loss_for(spec("accuracy", gates="margin: 0.02"), None).bound == 0.02
    assert loss_for(spec("mae", "regression", "tolerance: 0.5"), 8.0).bound == -0.0625
    stands_in = loss_for(spec("roc_auc", gates="tolerance: 0.01"), None).bound
    assert stands_in == pytest.approx(-0.01 * math.log(2) / math.log(100))


def test_the_scale_of_errors_is_known_before_the_first_one() -> None:
    number = spec("mae", "regression")
    assert scale_of_errors(number, {"mae": 2.0}) == 16.0
    assert scale_of_errors(number, {}) == 1.0
    assert scale_of_errors(spec(), {"mae": 2.0}) is None


def test_an_answer_without_a_score_is_no_pair() -> None:
    seen = compare_pairs(
        loss_for(spec("brier"), None),
        pairs([0.9, 0.9, np.nan], [0.9, np.nan, 0.9], [1, 1, 1]),
        0.05,
        NOW,
    )
    assert (seen.pairs, seen.labelled) == (3, 1)


def test_the_order_that_pairs_are_read_in_changes_nothing() -> None:
    random = np.random.default_rng(3)
    label = (random.random(800) < 0.5).astype(float)
    ours, theirs = right(0.8, label, random), right(0.85, label, random)
    loss = loss_for(spec(), None)
    found = [compare_pairs(loss, pairs(ours, theirs, label, s), 0.05, NOW) for s in (None, 1, 2)]
    assert found[0] == found[1] == found[2]
    assert found[0].low < found[0].gain < found[0].high


def test_labels_an_hour_are_those_of_late() -> None:
    label = np.ones(600)
    at = NOW - timedelta(days=28) + timedelta(minutes=600)
    seen = compare_pairs(loss_for(spec(), None), pairs(label, label, label), 0.05, at)
    assert seen.label_rate == pytest.approx(60, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=200),
    st.floats(-0.5, 0.5),
    st.integers(0, 3),
)
def test_wealth_is_the_same_whole_or_in_blocks_and_never_helps_both_sides(
    gains: list[float], bound: float, repeats: int
) -> None:
    values = np.array(gains * (1 + 40 * repeats))
    path = wealth_path_above(values, bound)
    whole = log_wealth_above(values, bound)
    assert whole == pytest.approx(max(0.0, float(path.max())), rel=1e-6, abs=1e-6)
    assert np.isfinite(path).all()
    low, high = interval(values, 0.05)
    assert -1 <= low <= high <= 1
    if path[-1] >= LIMIT:
        assert low >= bound - 1e-6
    mean = float(values.mean())
    assert low - 1e-6 <= mean <= high + 1e-6


def crossings(mean: float, rollouts: int, labels: int, seed: int) -> tuple[float, float]:
    """Shares of streams of gains in {-1, 0, 1} that are ever called better, and worse."""
    random = np.random.default_rng(seed)
    better = worse = 0
    for _ in range(rollouts):
        u = random.random(labels)
        gains = np.where(u < 0.05 + mean / 2, 1.0, np.where(u > 0.95 + mean / 2, -1.0, 0.0))
        better += log_wealth_above(gains, 0.0) >= LIMIT
        worse += log_wealth_below(gains, 0.0) >= LIMIT
    return better / rollouts, worse / rollouts


def test_looking_after_every_label_promotes_an_equal_or_worse_candidate_rarely() -> None:
    equal, unfair = crossings(0.0, 300, 1500, 11)
    assert equal <= 0.05
    assert unfair <= 0.05
    worse, found = crossings(-0.02, 100, 3000, 12)
    assert worse <= 0.05
    assert found >= 0.5


def test_pairs_need_at_most_two_fifths_of_the_labels_that_a_split_needs() -> None:
    random = np.random.default_rng(7)
    paired, apart = [], []
    for _ in range(24):
        count = 12_000
        shared = random.random(count) < 0.05
        draws = [np.where(shared, 1.0, random.random(count) < p) for p in (0.0421, 0.0211)]
        other = np.where(random.random(count) < 0.07, 1.0, 0.0)
        for gains, found, each in ((draws[0] - draws[1], paired, 1), (draws[0] - other, apart, 2)):
            path = wealth_path_above(gains, 0.0) >= LIMIT
            found.append(each * (int(path.argmax()) + 1 if path.any() else count))
    assert np.median(paired) <= 0.4 * np.median(apart)


def test_unpaired_blocks_find_the_better_of_two() -> None:
    random = np.random.default_rng(9)

    def outcomes(share: float, count: int, version: str) -> Outcomes:
        label = (random.random(count) < 0.5).astype(float)
        score = right(share, label, random)
        return Outcomes(
            prediction_id=np.array([f"{version}-{n:06d}/0" for n in range(count)], dtype=object),
            version=np.array([version] * count, dtype=object),
            role=np.array(["canary"] * count, dtype=object),
            predicted_at=times(count),
            prediction=(score >= 0.5).astype(np.int32),
            score=score,
            scores=None,
            label=label,
            label_received_at=times(count),
            slices={},
        )

    loss = loss_for(spec(), None)
    champion = outcomes(0.7, 9000, "1")
    seen = compare_apart(loss, champion, outcomes(0.8, 1000, "2"), 10, 0.05, NOW)
    assert not seen.paired
    assert seen.labelled == 1000
    assert seen.log_e_better >= LIMIT
    seen = compare_apart(loss, champion, outcomes(0.6, 1000, "2"), 10, 0.05, NOW)
    assert seen.log_e_worse >= LIMIT


def test_a_rate_within_its_limit_is_rarely_called_above_it_and_one_beyond_soon_is() -> None:
    random = np.random.default_rng(2)
    wrong = 0
    for _ in range(200):
        failures = np.cumsum(random.random(400) < 0.01)
        looks = range(5, 400, 5)
        wrong += any(
            log_e_rate_above(int(failures[n]), n + 1, 0.01) >= math.log(100) for n in looks
        )
    assert wrong <= 4
    assert log_e_rate_above(2, 2, 0.01) >= math.log(100)
    assert log_e_rate_above(1, 1, 0.0) == math.inf
    assert log_e_rate_above(0, 10, 0.0) == 0.0
    # By hand, with one failure of one: the mean of p / limit over the chances above it.
    assert log_e_rate_above(1, 1, 0.5) == pytest.approx(math.log(1.5))
