"""A folded cell says what the exact metrics say of its rows, within the bound it states."""

import math

import numpy as np
import pytest

from heliotrope.domain.metrics import Answers
from heliotrope.domain.truth.cell import Cell
from heliotrope.domain.truth.folding import fold
from heliotrope.domain.truth.intervals import (
    average_precision,
    mean,
    roc_auc_spread,
    share,
    student_width,
    within,
)
from heliotrope.domain.truth.plan import BINS, TruthPlan
from heliotrope.domain.truth.statistics import (
    CLASS,
    DELAY,
    DELAY_STEPS,
    ERROR,
    FOURTH_UNIT,
    LABEL,
    MAIN,
    SPLIT,
    SQUARE_UNIT,
    UNIT,
    UNLABELLED,
)
from heliotrope.spec import parse_spec

HEAD = "name: m\nevent_time: at\nsource: {path: x.parquet}\nfeatures: [{name: x, type: float}]\n"
BINARY = HEAD + (
    "task: binary\nlabel: {name: y, positive: true}\nmetrics: {primary: roc_auc, others: "
    "[average_precision, log_loss, brier, accuracy, f1, precision, recall, balanced_accuracy, "
    "recall_at_precision, calibration_error]}\n"
)
MULTICLASS = HEAD + (
    "task: multiclass\nlabel: {name: y, classes: [a, b, c]}\n"
    "metrics: {primary: accuracy, others: [balanced_accuracy, f1, log_loss, roc_auc]}\n"
)
REGRESSION = HEAD + (
    "task: regression\nlabel: {name: y}\nmetrics: {primary: mae, others: [rmse, r2]}\n"
)


def entries(series, outcome, called, place, *sums) -> Cell:
    """A cell of single rows, as the engines would add them up."""
    rows = len(outcome)
    columns = [np.ones(rows), *sums, *[np.zeros(rows)] * (5 - len(sums))]
    stacked = np.stack([np.floor(c + 0.5).astype(np.int64) for c in columns], axis=1)
    whole = [np.broadcast_to(v, rows).astype(np.int64) for v in (series, outcome, called, place)]
    return Cell.of(*whole, sums=stacked)


def score_bin(score: np.ndarray) -> np.ndarray:
    root = np.where(score <= 0.5, np.sqrt(score / 2), 1 - np.sqrt((1 - score) / 2))
    return np.minimum(np.floor(root * BINS), BINS - 1)


def binary_cell(label: np.ndarray, score: np.ndarray) -> Cell:
    own = np.where(label == 1, score, 1 - score)
    loss, squared = -np.log(own), (1 - own) ** 2
    return entries(
        MAIN, label, score >= 0.5, score_bin(score), score * UNIT, squared * UNIT,
        squared**2 * UNIT, loss * UNIT, loss**2 * SQUARE_UNIT,
    )  # fmt: skip


@pytest.mark.parametrize(("base", "rows"), [(1.0, 4000), (20.0, 4000), (1.0, 60)])
def test_binary_metrics_are_those_of_the_rows(base: float, rows: int) -> None:
    rng = np.random.default_rng(int(base))
    score = np.clip(rng.beta(1.0, base, rows), 1e-6, 1 - 1e-6)
    label = (rng.random(rows) < score).astype(int)
    plan = TruthPlan.of(parse_spec(BINARY))
    folded = fold(binary_cell(label, score), plan)
    exact = Answers.binary(label, score).values(plan.metrics)
    for name in set(plan.metrics) - {"roc_auc", "average_precision", "calibration_error"}:
        assert folded.metrics[name].value == pytest.approx(exact[name], abs=1e-8, nan_ok=True), name
    assert abs(folded.metrics["roc_auc"].value - exact["roc_auc"]) <= folded.binning_error < 2e-3
    assert folded.metrics["average_precision"].value == pytest.approx(
        exact["average_precision"], abs=0.01
    )
    assert folded.metrics["calibration_error"].value == pytest.approx(
        exact["calibration_error"], abs=0.01
    )
    for name, value in folded.metrics.items():
        if not math.isnan(value.value):
            assert value.low <= value.value <= value.high, name
            assert value.low < value.high, name


def test_intervals_cover_the_true_value_about_as_often_as_they_say() -> None:
    """300 windows of 400 rows: 95% intervals miss between 1.5% and 9% of the time."""
    plan = TruthPlan.of(parse_spec(BINARY))
    rng = np.random.default_rng(3)
    many = rng.beta(1.0, 3.0, 400_000)
    truth = Answers.binary((rng.random(400_000) < many).astype(int), many).values(plan.metrics)
    missed = dict.fromkeys(["roc_auc", "log_loss", "brier", "accuracy", "recall", "f1"], 0)
    for _ in range(300):
        score = rng.beta(1.0, 3.0, 400)
        folded = fold(binary_cell((rng.random(400) < score).astype(int), score), plan)
        for name in missed:
            value = folded.metrics[name]
            missed[name] += not value.low <= truth[name] <= value.high
    assert all(4 <= count <= 27 for count in missed.values()), missed


def test_one_class_or_no_label_leaves_undefined_what_is_undefined() -> None:
    plan = TruthPlan.of(parse_spec(BINARY))
    one = fold(binary_cell(np.zeros(5, int), np.full(5, 0.2)), plan)
    assert math.isnan(one.metrics["roc_auc"].value)
    assert one.metrics["accuracy"].value == 1.0
    assert one.metrics["accuracy"].low < 0.7
    none = fold(entries(MAIN, np.full(3, UNLABELLED), 0, 10, np.full(3, UNIT / 10)), plan)
    assert (none.predicted, none.labelled, none.delay) == (3, 0, None)
    assert all(math.isnan(value.value) for value in none.metrics.values())
    assert none.estimate["accuracy"].value == pytest.approx(0.9)


def test_multiclass_metrics_are_those_of_the_rows() -> None:
    rng = np.random.default_rng(1)
    score = rng.dirichlet([1, 1, 2], 800)
    label = np.array([rng.choice(3, p=row) for row in score])
    called = score.argmax(axis=1)
    loss = -np.log(score[np.arange(800), label])
    cell = entries(
        MAIN, label, called, score_bin(score.max(axis=1)), score.max(axis=1) * UNIT, np.zeros(800),
        np.zeros(800), loss * UNIT, loss**2 * SQUARE_UNIT,
    )  # fmt: skip
    for k in range(3):
        own = score[:, k]
        cell = cell + entries(CLASS + k, label == k, 0, score_bin(own), own * UNIT)
    plan = TruthPlan.of(parse_spec(MULTICLASS))
    folded = fold(cell, plan)
    exact = Answers.multiclass(label, score).values(plan.metrics)
    for name, value in folded.metrics.items():
        off = folded.binning_error if name == "roc_auc" else 1e-8
        assert abs(value.value - exact[name]) <= off, name
        assert value.low < value.value < value.high, name
    assert folded.estimate["accuracy"].value == pytest.approx(exact["accuracy"], abs=0.05)


@pytest.mark.parametrize(("centre", "spread"), [(0, 1.0), (2000, 10.0), (1e6, 1.0), (0, 1e-4)])
def test_regression_metrics_are_those_of_the_rows(centre: float, spread: float) -> None:
    rng = np.random.default_rng(2)
    label = centre + spread * rng.standard_normal(500)
    guess = label + 0.3 * spread * rng.standard_normal(500)
    plan = TruthPlan.of(parse_spec(REGRESSION))
    folded = fold(regression_cell(label, guess), plan)
    exact = Answers.regression(label, guess).values(plan.metrics)
    for name, value in folded.metrics.items():
        assert value.value == pytest.approx(exact[name], rel=1e-3), name
        assert value.low < value.value < value.high, name


def test_an_absurd_label_that_is_corrected_leaves_nothing_behind() -> None:
    plan = TruthPlan.of(parse_spec(REGRESSION))
    good = regression_cell(np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0]))
    typo = regression_cell(np.array([1e14]), np.array([0.5]))
    taken_out = Cell.of(*unpacked(typo), sums=-typo.sums)
    assert (good + typo) + taken_out == good
    assert fold((good + typo) + taken_out, plan).metrics["mae"].value == pytest.approx(0.5)


def unpacked(cell: Cell) -> list[np.ndarray]:
    columns: list[list[np.ndarray]] = [[], [], [], []]
    for series in (MAIN, ERROR, LABEL):
        part = cell.part(series)
        for column, values in zip(
            columns, (np.full(len(part.n), series), part.outcome, part.called, part.bin),
            strict=True,
        ):  # fmt: skip
            column.append(values)
    return [np.concatenate(column) for column in columns]


def regression_cell(label: np.ndarray, guess: np.ndarray) -> Cell:
    error = np.abs(guess - label)
    place = np.floor(np.log10(np.maximum(error, 1e-30)))
    size = error / 10.0**place
    label_place = np.floor(np.log10(np.maximum(np.abs(label), 1e-30)))
    whole = np.floor(label / 10.0**label_place * UNIT + 0.5)
    low = whole % SPLIT
    high = (whole - low) / SPLIT
    return (
        entries(MAIN, np.zeros(len(label)), 0, 0)
        + entries(
            ERROR, np.zeros(len(label)), 0, place + 40, size * UNIT, size**2 * UNIT,
            size**4 * FOURTH_UNIT,
        )
        + entries(
            LABEL, np.zeros(len(label)), 0, label_place + 40, high, low, high**2, high * low,
            low**2,
        )
    )  # fmt: skip


def test_delay_quantiles_are_within_two_per_cent() -> None:
    rng = np.random.default_rng(4)
    seconds = rng.lognormal(8, 2, 2000)
    place = np.floor((seconds * 1000) ** 0.25 * DELAY_STEPS)
    cell = entries(DELAY, np.zeros(2000), 0, place) + entries(MAIN, np.zeros(2000), 0, 5)
    folded = fold(cell, TruthPlan.of(parse_spec(BINARY)))
    assert folded.delay is not None
    for found, share_ in (
        (folded.delay.p50, 0.5),
        (folded.delay.p90, 0.9),
        (folded.delay.p99, 0.99),
    ):
        assert found == pytest.approx(np.quantile(seconds, share_, method="inverted_cdf"), rel=0.02)


def test_cells_survive_bytes_and_add_in_any_order() -> None:
    rng = np.random.default_rng(8)
    parts = [
        binary_cell(rng.integers(0, 2, 50), np.clip(rng.random(50), 0.01, 0.99)) for _ in range(4)
    ]
    forward = parts[0] + parts[1] + parts[2] + parts[3]
    backward = (parts[3] + parts[2]) + (parts[1] + parts[0])
    assert forward == backward
    assert Cell.from_bytes(forward.to_bytes()) == forward
    assert Cell.from_bytes(Cell.empty().to_bytes()) == Cell.empty()
    assert (forward + Cell.empty()) == forward
    assert forward != parts[0]


def test_known_intervals() -> None:
    # Newcombe 1998, table I: 81 of 263 is [0.2553, 0.3662] by Wilson's score.
    wilson = share(81 / 263, 263)
    assert (wilson.low, wilson.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert share(1.0, 10).high == 1.0
    assert 0.6 < share(1.0, 10).low < 0.8
    # Student's 97.5% quantile with 9 degrees of freedom is 2.262.
    assert student_width(10) == pytest.approx(2.262 * math.sqrt(10 / 9), abs=2e-3)
    assert mean(5.0, 25.0 + 4.0, 2).high == pytest.approx(
        5 + 12.706 * math.sqrt(2) * math.sqrt(2), rel=1e-3
    )
    assert math.isnan(mean(5.0, 25.0, 1).low)
    assert within(1.0, 0.0, 20).low == pytest.approx(0.8316, abs=1e-3)
    assert math.isnan(within(math.nan, 0.1, 20).value)
    assert average_precision(0.5, 100).low == pytest.approx(0.5 - 0.098, abs=5e-3)


def test_the_spread_of_roc_auc_is_delongs() -> None:
    rng = np.random.default_rng(9)
    positive, negative = rng.normal(1, 1, 40), rng.normal(0, 1, 60)
    wins = (positive[:, None] > negative).astype(float)
    exact = math.sqrt(wins.mean(axis=1).var(ddof=1) / 40 + wins.mean(axis=0).var(ddof=1) / 60)
    order = np.argsort(np.concatenate([positive, negative]))
    is_positive = (order < 40).astype(float)
    assert roc_auc_spread(is_positive, 1 - is_positive) == pytest.approx(exact)


def test_gaps_of_calibration_add_up_to_what_is_wrong_and_not_to_chance() -> None:
    """100 windows of 1,000 rows of which 1.8% are positive; scores right, or half of what is so."""
    plan = TruthPlan.of(parse_spec(BINARY))
    rng = np.random.default_rng(5)
    for factor in (1.0, 2.0):
        alone, together, wrong = 0.0, np.zeros(10), 0.0
        for _ in range(100):
            score = np.clip(rng.beta(1.0, 54.0, 1000), 1e-6, 0.49)
            truth = (rng.random(1000) < factor * score).astype(int)
            gaps = np.array(fold(binary_cell(truth, score), plan).calibration_gaps)
            alone += np.abs(gaps).sum() / 100_000
            together += gaps / 100_000
            wrong += (factor - 1) * score.sum() / 100_000
        found = np.abs(together).sum()
        assert abs(found - wrong) < 0.002
        assert alone > wrong + 0.002
