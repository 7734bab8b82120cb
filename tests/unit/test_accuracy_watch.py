"""Watches of losses: what a row costs, targets, beginnings and ends."""

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
from heliotrope.domain.outcomes import Outcomes
from heliotrope.domain.row_loss import LossKind, row_losses
from heliotrope.domain.sequential.design import ErrorBase
from heliotrope.domain.triggers import AcceptedLevel
from heliotrope.domain.truth.documents import WindowTruth
from heliotrope.service.alarms import ROWS_A_WINDOW, thinned
from heliotrope.spec import parse_spec

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


def after_windows(errors: list[float], seed: int, rows: int = 200) -> AccuracyState:
    """Windows of absolute errors of some mean, of a model that was accepted at 2."""
    accepted = AcceptedLevel(
        metric="mae", value=2.0, low=1.85, high=2.15, rows=400, version="1", accepted_at=T0
    )
    random, state = np.random.default_rng(seed), AccuracyState()
    for place, error in enumerate(errors):
        label = random.normal(size=rows) * error * np.sqrt(np.pi / 2)
        truth = WindowTruth.model_construct(version="1", window_from=T0 + place * timedelta(days=1))
        state = advanced(PRICES, state, rows_of(rows, label=label), truth, accepted)
    return state


def test_a_model_that_is_wrong_by_more_than_accepted_from_its_first_day_on_is_called() -> None:
    for seed in range(5):
        watch = after_windows([6.0], seed).falls[WHOLE]
        assert watch.raised is not None
        assert watch.raised.noticed < 100
        assert "the holdout" in after_windows([6.0], seed).bases[WHOLE].source


def test_a_model_that_errs_as_it_was_accepted_is_left_alone() -> None:
    for seed in range(5):
        state = after_windows([2.0] * 25, seed)
        assert state.falls[WHOLE].raised is None
        assert state.bases[WHOLE].mean * (state.scale or 0) == pytest.approx(2.0)
