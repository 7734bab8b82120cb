"""What depends on the clock and on the windows before: maturity, error bounds, marks."""

from datetime import UTC, datetime, timedelta

import pytest

from heliotrope.domain.estimate import UNMEASURED_CALIBRATION
from heliotrope.domain.evaluation import MetricValue
from heliotrope.domain.truth.cell import CellKey
from heliotrope.domain.truth.documents import Folded, FoldedEstimate, Maturity, WindowTruth
from heliotrope.domain.truth.plan import MISSING, WHOLE, TruthPlan
from heliotrope.domain.truth.reading import maturity, windows
from heliotrope.spec import parse_spec

SPEC = """
name: m
task: binary
label: {name: y, positive: 1, delay: 3d}
event_time: at
source: {path: x.parquet}
features:
  - {name: grade, type: category, categories: [A, B]}
  - {name: rich, type: boolean}
  - {name: income, type: float}
metrics: {primary: accuracy}
slices: [{feature: grade}, {feature: rich}, {feature: income, bins: [10, 20.5]}]
monitoring: {window: 1d, mature_coverage: 0.9}
"""
PLAN = TruthPlan.of(parse_spec(SPEC))
DAY = datetime(2026, 3, 4, tzinfo=UTC)
NUMBER = PLAN.window_of(DAY)


def folded(labelled: int, predicted: int = 100, **more: object) -> Folded:
    value = MetricValue(value=0.8, low=0.7, high=0.9)
    claimed = FoldedEstimate(value=0.81, low=0.8, high=0.82, sensitivity=1.0)
    return Folded(**{
        "predicted": predicted, "labelled": labelled, "unjudged": 0, "correct": None,
        "class_counts": {},
        "metrics": {"accuracy": value}, "binning_error": 0.0, "delay": None,
        "estimate": {"accuracy": claimed}, "calibration_gaps": (2.0, -0.5) if labelled else (),
        "log_evidence": 0.0, **more,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("after_start", "labelled", "expected"),
    [
        (timedelta(seconds=-1), 100, Maturity.FUTURE),
        (timedelta(0), 100, Maturity.OPEN),
        (timedelta(hours=23), 100, Maturity.OPEN),
        (timedelta(days=1), 89, Maturity.MATURING),
        (timedelta(days=1), 90, Maturity.BY_COVERAGE),
        (timedelta(days=3, hours=23), 89, Maturity.MATURING),
        (timedelta(days=4), 1, Maturity.BY_DELAY),
        (timedelta(days=4), 0, Maturity.UNLABELLED),
    ],
)
def test_maturity_by_delay_and_by_coverage(
    after_start: timedelta, labelled: int, expected: Maturity
) -> None:
    found = maturity(PLAN, NUMBER, folded(labelled), DAY + after_start)
    assert found is expected
    assert found.mature is (expected in (Maturity.BY_COVERAGE, Maturity.BY_DELAY))


def read(parts: list[Folded], now: datetime) -> list[WindowTruth]:
    keyed = [
        (CellKey(NUMBER + place, "1", "champion", WHOLE, 0), part)
        for place, part in enumerate(parts)
    ]
    return windows(PLAN, keyed, now)


def test_only_earlier_mature_windows_widen_an_estimate() -> None:
    found = read(
        [folded(95), folded(95, calibration_gaps=(-1.0, -3.5)), folded(10)], DAY + timedelta(3)
    )
    lows = [window.estimate["accuracy"].low for window in found]
    # What was too high in one window and too low in the next was chance.
    expected = [0.8 - UNMEASURED_CALIBRATION, 0.8 - 2.5 / 95, 0.8 - (1.0 + 4.0) / 190]
    assert lows == pytest.approx(expected)


def test_a_mature_window_marks_itself_and_those_after_an_immature_one_nobody() -> None:
    bad = {"log_evidence": 20.0, "metrics": {"accuracy": MetricValue(value=0.6, low=0.5, high=0.7)}}
    now = DAY + timedelta(3)
    marked = [w.estimate["accuracy"].unreliable for w in read(
        [folded(95), folded(95, **bad), folded(10)], now)]  # fmt: skip
    assert marked == [False, True, True]
    early = [w.estimate["accuracy"].unreliable for w in read(
        [folded(95), folded(50, **bad), folded(10)], now)]  # fmt: skip
    assert early == [False, False, False]


def test_since_leaves_out_windows_that_ended_before() -> None:
    keyed = [(CellKey(NUMBER + k, "1", "champion", WHOLE, 0), folded(9)) for k in range(3)]
    shown = windows(PLAN, keyed, DAY + timedelta(9), DAY + timedelta(days=1, hours=5))
    assert [window.window_from for window in shown] == [DAY + timedelta(1), DAY + timedelta(2)]


def test_documents_survive_json() -> None:
    (window,) = read([folded(0)], DAY + timedelta(9))
    assert WindowTruth.from_json(window.to_json()) == window


def test_slices_are_named_as_evaluation_names_them() -> None:
    names = [PLAN.slice_name(axis, code) for axis, code in
             [(0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, MISSING)]]  # fmt: skip
    assert names == [
        "grade = B", "rich = false", "rich = true", "income < 10", "income in [10, 20.5)",
        "income >= 20.5", "income missing",
    ]  # fmt: skip


def test_a_day_starts_at_midnight_and_a_week_on_monday() -> None:
    assert PLAN.window_start(NUMBER) == DAY
    weekly = TruthPlan.of(parse_spec(SPEC.replace("window: 1d", "window: 1w")))
    assert weekly.window_start(weekly.window_of(DAY)) == datetime(2026, 3, 2, tzinfo=UTC)
    old = datetime(1969, 7, 20, 20, 17, tzinfo=UTC)
    assert PLAN.window_start(PLAN.window_of(old)) == datetime(1969, 7, 20, tzinfo=UTC)
