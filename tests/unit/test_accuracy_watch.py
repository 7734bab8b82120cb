"""Watches of losses: what a row costs, targets, beginnings and ends."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from heliotrope.domain.accuracy import (
    AlarmKind,
    LossBase,
    Watch,
    afresh,
    error_watch,
    feed,
    loss_watch,
    tolerated,
)
from heliotrope.domain.accuracy_state import WHOLE, AccuracyState, advanced, by_version
from heliotrope.domain.metrics import Answers
from heliotrope.domain.outcomes import Outcomes
from heliotrope.domain.row_loss import LossKind, holdout_loss, row_losses
from heliotrope.domain.sequential.design import ErrorBase
from heliotrope.domain.triggers import AcceptedLevel
from heliotrope.domain.truth.documents import WindowTruth
from heliotrope.service.alarms import ROWS_A_WINDOW, thinned
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.spec.model import Metrics

LOANS = parse_spec("""
name: loans
task: binary
label: {name: y, positive: 1}
source: {path: loans.csv}
features: [{name: a, type: float}]
metrics: {primary: roc_auc}
""")
T0 = datetime(2026, 3, 2, tzinfo=UTC)
PRICES = parse_spec("""
name: prices
task: regression
label: {name: y}
source: {path: prices.csv}
features: [{name: a, type: float}]
metrics: {primary: mae}
monitoring: {fall: 1.0}
""")


def rows_of(n: int, **changed: Any) -> Outcomes:
    at = np.datetime64(T0.replace(tzinfo=None), "us") + np.arange(n) * np.timedelta64(1, "m")
    given: dict[str, Any] = {
        "prediction_id": np.array([f"p{i}" for i in range(n)], object),
        "version": np.array(["1"] * n, object),
        "role": np.array(["champion"] * n, object),
        "predicted_at": at,
        "prediction": np.zeros(n, np.int32),
        "score": np.zeros(n),
        "scores": None,
        "label": np.zeros(n),
        "label_received_at": at,
        "slices": {},
    }
    return Outcomes(**{**given, **changed})


def test_a_row_costs_between_nothing_and_one() -> None:
    binary = rows_of(
        3, prediction=np.array([1, 0, 1], np.int32), score=np.array([0.9, 0.2, 0.6]),
        label=np.array([1.0, 1.0, 0.0]),
    )  # fmt: skip
    assert row_losses(LossKind.ERROR, binary).tolist() == [0, 1, 1]
    assert row_losses(LossKind.BRIER, binary) == pytest.approx([0.01, 0.64, 0.36])
    three = rows_of(
        2, scores=np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), label=np.array([1.0, 0.0])
    )
    assert row_losses(LossKind.BRIER, three) == pytest.approx([0.25, 1.0])
    number = rows_of(2, score=np.array([3.0, 100.0]), label=np.array([1.0, 1.0]))
    assert row_losses(LossKind.SCALED, number, scale=8.0).tolist() == [0.25, 1.0]


def test_what_is_tolerated_allows_for_how_well_the_base_is_known() -> None:
    few = LossBase(rows=500, total=30.0, squares=30.0, source="a test")
    many = few.model_copy(update={"rows": 500_000, "total": 30_000.0, "squares": 30_000.0})
    bound, over = tolerated(many, 0.05)
    assert (bound, over) == (pytest.approx(0.085), pytest.approx(0.11))
    assert tolerated(few, 0.001)[0] > tolerated(many, 0.001)[0] > many.mean
    assert tolerated(many, None)[1] == pytest.approx(1.1 * many.mean)


def errors(rate: float, n: int, seed: int) -> Any:
    return (np.random.default_rng(seed).random(n) < rate).astype(float)


@pytest.mark.parametrize("kind", ["charts", "e-detector"])
def test_a_watch_fed_in_windows_of_any_size_raises_the_same_alarm(kind: str) -> None:
    if kind == "charts":
        start = error_watch(ErrorBase(errors=600, rows=10_000), 0.05, 8000)
    else:
        start = loss_watch(AlarmKind.FALL, LossKind.ERROR, 0.08, 0.11, 8000)
    losses = np.concatenate([errors(0.06, 600, 1), errors(0.35, 60, 2)])
    at = rows_of(660).predicted_at
    found = []
    for size in (660, 110, 30):
        watch = start
        for first in range(0, 660, size):
            part = slice(first, first + size)
            watch = feed(watch, losses[part], at[part], T0)
            watch = Watch.from_json(watch.to_json())
        assert watch.raised is not None
        found.append((watch.raised.since, watch.raised.noticed))
    assert len(set(found)) == 1
    assert abs(found[0][0] - (T0 + timedelta(minutes=600))) < timedelta(minutes=8)


def test_a_watch_begun_afresh_keeps_its_target() -> None:
    start = error_watch(ErrorBase(errors=600, rows=10_000), 0.05, 8000)
    at = rows_of(100).predicted_at
    raised = feed(start, errors(0.5, 100, 3), at, T0)
    assert raised.raised is not None
    assert afresh(raised) == start
    # Eight errors in a hundred are above what was accepted, and still less than what matters.
    better = raised
    for seed in range(30):
        better = feed(better, errors(0.07, 100, seed), at, T0)
    assert better.raised is None


def test_stragglers_of_the_version_before_are_counted_with_it() -> None:
    version = np.array(["1", "1", "2", "1", "2", "2"], object)
    parts = by_version(rows_of(6, version=version), current="1")
    assert [(name, len(part)) for name, part in parts] == [("1", 3), ("2", 3)]
    alone = by_version(rows_of(6, version=version), current="2")
    assert [(name, len(part)) for name, part in alone] == [("2", 3)]
    assert [name for name, _ in by_version(rows_of(6, version=version), None)] == ["1", "2"]


def test_of_a_flood_an_even_part_is_judged() -> None:
    few = rows_of(10)
    assert thinned(few) is few
    many = thinned(rows_of(ROWS_A_WINDOW * 3))
    assert len(many) == ROWS_A_WINDOW
    assert many.predicted_at[0] == few.predicted_at[0]
    gaps = np.diff(many.predicted_at) / np.timedelta64(1, "m")
    assert set(gaps.tolist()) <= {3.0, 4.0}


def holdout(kind: LossKind, rows: Outcomes, metric: str, value: float) -> AcceptedLevel:
    if kind is LossKind.SCALED:
        answers = Answers.regression(rows.label, rows.score)
    else:
        answers = Answers.binary(rows.label, rows.score, decisions=rows.prediction)
    return AcceptedLevel(
        metric=metric, value=value, low=value, high=value, rows=len(rows), version="1",
        accepted_at=T0, watched=holdout_loss(kind, answers),
    )  # fmt: skip


def lived(
    spec: ModelSpec, accepted: AcceptedLevel | None, windows: Iterable[Outcomes]
) -> AccuracyState:
    """The state after windows of outcomes, a day each."""
    state = AccuracyState()
    for day, rows in enumerate(windows):
        truth = WindowTruth.model_construct(version="1", window_from=T0 + day * timedelta(days=1))
        state = advanced(spec, state, rows, truth, accepted)
    return state


def prices(random: np.random.Generator, error: float, rows: int = 200) -> Outcomes:
    """Answers of 0, and truths so far from them in the mean."""
    return rows_of(rows, label=random.normal(size=rows) * error * np.sqrt(np.pi / 2))


def loans(random: np.random.Generator, lift: float, rows: int = 200) -> Outcomes:
    """Calibrated scores, of which the true rate is further away by `lift` on both sides."""
    score = random.uniform(0.05, 0.35, rows)
    label = random.random(rows) < np.clip(score + lift, 0, 1)
    return rows_of(rows, score=score, label=label.astype(float))


Day = Callable[[np.random.Generator, float, int], Outcomes]


@pytest.mark.parametrize(
    ("primary", "kind", "day", "well", "worse"),
    [
        ("mae", LossKind.SCALED, prices, 2.0, 6.0),
        ("rmse", LossKind.SCALED, prices, 2.0, 6.0),
        ("roc_auc", LossKind.BRIER, loans, 0.0, 0.4),
        ("brier", LossKind.BRIER, loans, 0.0, 0.4),
    ],
)
def test_outcomes_are_held_against_the_holdout_from_the_first_day_on(
    primary: str, kind: LossKind, day: Day, well: float, worse: float
) -> None:
    base = PRICES if kind is LossKind.SCALED else LOANS
    spec = base.model_copy(update={"metrics": Metrics(primary=primary)})
    for seed in range(5):
        random = np.random.default_rng(seed)
        shown = day(random, well, 2_000)
        accepted = holdout(kind, shown, primary, 1.0)
        state = lived(spec, accepted, [day(random, worse, 200)])
        raised = state.falls[WHOLE].raised
        assert raised is not None
        assert raised.noticed < 150
        assert "the holdout" in state.bases[WHOLE].source
        # The same days, learnt from, are taken for well.
        assert WHOLE not in lived(spec, None, [day(random, worse, 200)]).falls
        state = lived(spec, accepted, [day(random, well, 200) for _ in range(25)])
        assert state.falls[WHOLE].raised is None
        losses = row_losses(kind, shown, state.scale or 1.0)
        assert state.bases[WHOLE].mean == pytest.approx(losses.mean())
        assert state.bases[WHOLE].spread == pytest.approx(losses.std())


def test_a_level_of_another_loss_is_not_held_against_outcomes() -> None:
    random = np.random.default_rng(0)
    accepted = holdout(LossKind.ERROR, loans(random, 0.0), "accuracy", 0.8)
    state = lived(LOANS, accepted, [loans(random, 0.0)])
    assert state.falls == {}
    assert "the first outcomes" in state.bases[WHOLE].source


def test_a_level_written_down_before_the_losses_were_says_its_errors() -> None:
    spec = LOANS.model_copy(update={"metrics": Metrics(primary="accuracy")})
    accepted = holdout(LossKind.ERROR, loans(np.random.default_rng(0), 0.0), "accuracy", 0.75)
    before = accepted.model_copy(update={"watched": None})
    state = lived(spec, before, [loans(np.random.default_rng(1), 0.0)])
    assert state.bases[WHOLE].total == 50


def test_a_level_of_few_rows_is_watched_without_charts() -> None:
    """97 of 100 right: the true rate may be one at which charts would rise by themselves."""
    spec = LOANS.model_copy(update={"metrics": Metrics(primary="accuracy")})
    accepted = AcceptedLevel(
        metric="accuracy", value=0.97, low=0.9, high=1.0, rows=100, version="1", accepted_at=T0
    )

    def day(random: np.random.Generator, errors: float) -> Outcomes:
        return rows_of(200, label=(random.random(200) < errors).astype(float))

    for seed in range(5):
        random = np.random.default_rng(seed)
        state = lived(spec, accepted, [day(random, 0.03) for _ in range(25)])
        assert state.falls[WHOLE].raised is None
        assert state.falls[WHOLE].promises() == {"run_length_at_least": 8000.0}
        raised = lived(spec, accepted, [day(random, 0.28)]).falls[WHOLE].raised
        assert raised is not None
        assert raised.noticed < 100


@pytest.mark.parametrize("score", [[], [np.nan, 0.5]])
def test_a_holdout_without_a_loss_of_each_row_says_none(score: list[float]) -> None:
    answers = Answers.binary(np.zeros(len(score)), score)
    assert holdout_loss(LossKind.BRIER, answers) is None


def test_a_holdout_adds_up_what_its_rows_cost() -> None:
    answers = Answers.regression([1.0, 3.0, 50.0], [2.0, 1.0, 2.0])
    found = holdout_loss(LossKind.SCALED, answers)
    assert found is not None
    assert found.kind is LossKind.SCALED
    scale = 8 * 51 / 3
    numbers = [found.rows, found.total, found.squares, found.scale]
    assert numbers == pytest.approx([3, 51 / scale, (1 + 4 + 48**2) / scale**2, scale])
