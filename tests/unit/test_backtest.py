"""What a backtest is asked, and how it is judged, as pure functions."""

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from heliotrope.adapters.reports.backtest import drawn_points
from heliotrope.cli.backtest_view import tables
from heliotrope.domain.backtest.history import (
    History,
    answers_of,
    moment,
    slice_codes,
    stamp,
    start_within,
)
from heliotrope.domain.backtest.judging import (
    Answered,
    Hindsight,
    Level,
    changes_seen,
    detections,
    level_of,
    points,
    recovered,
)
from heliotrope.domain.backtest.policy import MOST, PolicyKind, references, settings
from heliotrope.domain.backtest.report import (
    AlarmEpisode,
    BacktestReport,
    DayPoint,
    PolicyResult,
)
from heliotrope.domain.backtest.table import notes
from heliotrope.domain.decisions import Decision, DecisionKind
from heliotrope.errors import SpecError, UsageError
from heliotrope.service.backtest import Span, default_tick
from heliotrope.service.backtest_measuring import episodes
from heliotrope.service.backtest_oracle import SIZES, final_at
from heliotrope.spec import parse_spec

SPEC = parse_spec("""
name: loans
task: binary
event_time: at
label: {name: y, positive: 1, delay: 1d}
source: {path: loans.csv}
metrics: {primary: accuracy}
features:
  - {name: x, type: float}
  - {name: grade, type: category, categories: [a, b]}
slices: [{feature: grade}, {feature: x, bins: [0, 2]}]
monitoring: {window: 1d, fall: 0.1}
rollout: {bake: 4h}
""")
DAY = timedelta(days=1)
T0 = datetime(2026, 3, 2, tzinfo=UTC)


def point(day: int, *, missed: bool = False) -> DayPoint:
    return DayPoint(start=T0 + day * DAY, rows=100, value=0.9, low=0.8, high=0.95, missed=missed)


def run_of(missed: str) -> list[DayPoint]:
    """A day a letter, `x` where it is missed."""
    return [point(day, missed=letter == "x") for day, letter in enumerate(missed)]


def history(days: int = 4, a_day: int = 10) -> History:
    at = stamp(T0) + np.arange(days * a_day) * np.timedelta64(86_400 // a_day, "s")
    count = len(at)
    matrix = np.stack([np.arange(count) % 5 - 1, np.arange(count) % 2], axis=1).astype(np.float32)
    label = (np.arange(count) % 2).astype(np.float64)
    table = pa.table({"x": matrix[:, 0], "grade": ["a", "b"] * (count // 2)})
    return History(at, label, at + np.timedelta64(1, "D"), matrix, table, "rows")


def test_a_grid_has_every_combination_in_the_order_it_was_asked_for() -> None:
    found = settings(SPEC, ["monitoring.k=1,2", "retraining.memory_rows=[500, 900],[]"])
    assert [policy.name for policy in found] == [
        "monitoring.k=1, retraining.memory_rows=[500, 900]",
        "monitoring.k=1, retraining.memory_rows=[]",
        "monitoring.k=2, retraining.memory_rows=[500, 900]",
        "monitoring.k=2, retraining.memory_rows=[]",
    ]
    assert [p.spec.monitoring.k for p in found] == [1, 1, 2, 2]
    assert found[0].spec.retraining.memory_rows == (500, 900)
    assert found[0].spec.features == SPEC.features


def test_without_a_wish_the_spec_stands_as_it_is() -> None:
    (only,) = settings(SPEC, [])
    assert only.spec == SPEC


def test_durations_are_set_as_a_spec_writes_them() -> None:
    (only,) = settings(SPEC, ["rollout.shadow.backfill=3d"])
    assert only.spec.rollout.shadow.backfill == 3 * DAY


@pytest.mark.parametrize(
    ("wish", "error", "says"),
    [
        ("monitoring.k", UsageError, "must be PATH=VALUE"),
        ("monitoring.k=", UsageError, "must be PATH=VALUE"),
        ("monitoring.kk=2", SpecError, "monitoring.kk must be one of monitoring.window"),
        ("trainer.seed=2", SpecError, "trainer.seed must be one of monitoring., retraining."),
        ("monitoring=2", SpecError, "monitoring must be one of monitoring.window"),
        ("monitoring.k=0", SpecError, "monitoring.k must be 1 or more. Got 0."),
        ("monitoring.k=9", SpecError, r"monitoring.k must be at most n \(3\). Got 9."),
        ("monitoring.effect=loud", SpecError, "monitoring.effect must be a number. Got 'loud'."),
        ("rollout.steps=[50, 20]", SpecError, r"rollout.steps\[1\] must be between 1 and 100"),
        ("monitoring.k=[1", UsageError, "must have values as in YAML"),
    ],
)
def test_a_bad_wish_is_refused_with_field_bound_and_value(
    wish: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        settings(SPEC, [wish])


def test_a_path_twice_and_a_grid_too_large_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--set monitoring\.n must be given once"):
        settings(SPEC, ["monitoring.n=3", "monitoring.n=4"])
    many = ",".join(str(n) for n in range(1, MOST + 2))
    with pytest.raises(UsageError, match=f"{MOST} settings at most. Got {MOST + 1}"):
        settings(SPEC, [f"retraining.max_failures={many}"])


def test_references_act_by_nothing_but_what_they_are_called_for() -> None:
    never, scheduled, oracle = references(SPEC)
    assert not never.spec.retraining.on_evidence
    assert never.spec.retraining.schedule is None
    assert not scheduled.spec.retraining.on_evidence
    assert scheduled.spec.retraining.schedule == "0 0 * * 1"
    assert oracle.kind is PolicyKind.ORACLE


def test_a_start_of_our_own_is_a_windows_and_one_outside_is_refused() -> None:
    first, last = T0 + timedelta(hours=5), T0 + 9 * DAY
    assert start_within(SPEC, first, last, None) == T0 + 4 * DAY
    assert start_within(SPEC, first, last, T0 + DAY) == T0 + DAY
    # A log is played from the window in which it begins, unless there is nothing to learn before.
    assert start_within(SPEC, first, last, None, T0 + 6.5 * DAY) == T0 + 6 * DAY
    assert start_within(SPEC, first, last, T0 + DAY, T0 + 6.5 * DAY) == T0 + DAY
    assert start_within(SPEC, first, last, None, first + timedelta(hours=2)) == T0 + 4 * DAY
    for asked in (T0, last, last + DAY):
        with pytest.raises(UsageError, match="--start must lie within the history"):
            start_within(SPEC, first, last, asked)


def test_ticks_reach_the_end_and_are_no_longer_than_a_quarter_of_the_bake() -> None:
    span = Span(T0, T0 + timedelta(hours=7), timedelta(hours=3))
    assert [(t - T0) / timedelta(hours=1) for t in span.times()] == [3, 6, 7]
    assert default_tick(SPEC) == timedelta(hours=1)


def test_rows_are_known_when_they_happened_and_their_label_came() -> None:
    past = history()
    known = past.known(T0 + DAY, T0 + 1.5 * DAY)
    # Those of the first half day: later ones were told after a day and a half.
    assert np.flatnonzero(known).tolist() == list(range(6))
    assert past.ids()[12] == "000000012/0"


def test_slices_are_numbered_as_the_truth_numbers_them() -> None:
    codes = slice_codes(SPEC, np.array([[-1, 0], [0, 1], [2, np.nan], [np.nan, 1]], np.float32))
    assert codes["grade"].tolist() == [0, 1, -1, 1]
    assert codes["x"].tolist() == [0, 1, 2, -1]


def test_a_fall_that_lasts_is_a_change_and_one_window_is_chance() -> None:
    assert changes_seen(run_of("..x..x.")) == ()
    assert changes_seen(run_of("..xx..xxx")) == (T0 + 2 * DAY, T0 + 6 * DAY)


def test_a_target_is_met_again_from_the_first_of_two_windows_that_meet_it() -> None:
    end = T0 + 30 * DAY
    assert recovered(run_of("....."), T0, end) == (False, None)
    assert recovered(run_of(".xx.x.."), T0 + DAY, end) == (True, T0 + 5 * DAY)
    assert recovered(run_of(".xxx."), T0 + DAY, end) == (True, None)


def sight(missed: str, *changes: int, known: bool = True, promoted: int | None = None) -> Hindsight:
    return Hindsight(
        tuple(T0 + day * DAY for day in changes),
        known,
        tuple(run_of(missed)),
        () if promoted is None else (T0 + promoted * DAY,),
        DAY,
        DAY,
    )


def test_an_alarm_before_a_known_change_is_false_and_after_it_true_until_it_is_answered() -> None:
    given = sight("." * 20, 5, promoted=9)
    assert not given.true(T0 + 4 * DAY)
    assert given.true(T0 + 6 * DAY)
    assert given.true(T0 + 11 * DAY)
    assert not given.true(T0 + 12 * DAY)


def test_without_known_changes_an_alarm_is_true_where_a_window_it_rests_on_was_missed() -> None:
    seen = sight("....xx....", known=False)
    assert not seen.true(T0 + 3 * DAY)
    assert seen.true(T0 + 6 * DAY)
    assert seen.true(T0 + 8 * DAY)
    assert not seen.true(T0 + 12 * DAY)


def test_a_change_is_called_by_the_first_true_alarm_and_counted_in_labels() -> None:
    past = history(days=12)
    alarms = [
        AlarmEpisode(raised=T0 + day * DAY, ended=None, true=true, text="")
        for day, true in ((5.5, False), (7, True), (8, True))
    ]
    (found,) = detections(past, sight("....." + "x" * 7, 5), alarms, T0 + 12 * DAY)
    assert found.delay == 2 * DAY
    # Rows of the fifth day have their labels a day later; the first of the sixth has it just then.
    assert found.labels == 11
    assert found.harmed
    assert found.recovered is None


def test_a_history_without_a_change_has_nothing_to_call_and_two_are_called_apart() -> None:
    past, end = history(days=12), T0 + 12 * DAY
    alarms = [AlarmEpisode(raised=T0 + 9 * DAY, ended=None, true=True, text="")]
    assert detections(past, sight("." * 12), alarms, end) == ()
    first, second = detections(past, sight("." * 12, 3, 8), alarms, end)
    assert (first.called, second.called) == (None, T0 + 9 * DAY)


def test_a_window_is_missed_beyond_the_fall_and_beyond_chance_only() -> None:
    more, less = Level(0.9, 0.05, True), Level(10.0, 2.0, False)
    assert more.missed(0.80, 0.75, 0.85)
    assert not more.missed(0.86, 0.85, 0.87)
    assert not more.missed(0.80, 0.60, 0.95)
    assert not more.missed(float("nan"), 0.0, 0.1)
    assert less.missed(13.0, 12.0, 14.0)
    assert not less.missed(11.0, 10.5, 11.5)


def test_points_are_measured_by_all_labels_window_by_window() -> None:
    past = history()
    rows = np.arange(5, len(past))
    says = answers_of(SPEC, np.where(past.at[rows] < stamp(T0 + 2 * DAY), past.label[rows], 0.2))
    found = points(SPEC, past, Answered(rows, says), level_of(SPEC, 0.95), 1)
    assert [p.start for p in found] == [T0 + n * DAY for n in range(4)]
    assert [p.rows for p in found] == [5, 10, 10, 10]
    assert [p.value for p in found] == [1.0, 1.0, 0.5, 0.5]
    assert [p.missed for p in found] == [False, False, True, True]


def test_a_models_scores_become_what_a_predictor_logs() -> None:
    binary = answers_of(SPEC, np.array([0.2, 0.5]))
    assert binary.called.tolist() == [0, 1]
    many = answers_of(SPEC, np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]]))
    assert many.called.tolist() == [1, 0]
    assert many.score.tolist() == [0.7, 0.5]


def alarm(at: datetime, status: str, fingerprint: str = "f") -> Decision:
    return Decision(
        model="loans", at=at, kind=DecisionKind.ALARM, actor="controller", subject="alarm",
        reason=f"{fingerprint} {status}", evidence={"status": status, "fingerprint": fingerprint},
        sequence=1, previous="", hash="",
    )  # fmt: skip


def test_alarms_that_ring_together_are_one_and_a_new_version_does_not_end_it() -> None:
    log = [
        alarm(T0, "firing", "whole"),
        alarm(T0, "firing", "slice"),
        alarm(T0 + DAY, "resolved", "slice"),
        alarm(T0 + 2 * DAY, "resolved", "whole"),
        alarm(T0 + 2 * DAY, "firing", "whole"),
        alarm(T0 + 3 * DAY, "resolved", "whole"),
        alarm(T0 + 5 * DAY, "firing", "whole"),
    ]
    found = episodes(log)
    assert [(e.raised, e.ended) for e in found] == [(T0, T0 + 3 * DAY), (T0 + 5 * DAY, None)]
    assert found[0].text == "whole firing"


def test_an_oracle_trains_when_so_many_rows_since_the_change_are_final() -> None:
    past = history(days=70)
    times = final_at(past, SPEC, T0 + DAY)
    assert len(times) == sum(size <= 690 for size in SIZES)
    # The 300th row since then is the last of the thirtieth day, and final a day later.
    assert times[0] == moment(past.at[309]) + DAY


COLUMNS = ["policy", "called after", "mae after the change"]
CELLS = [
    ["as the spec says", "1.5 d, 251 labels", "4.6352"],
    ["never", "not called", "11.1458"],
    ["monitoring.run_length=30000, retraining.memory_rows=[500, 900]", "2 d, 300 labels", "5.0"],
]


def drawn(width: int) -> tuple[str, int]:
    """What is printed on a terminal so wide, and how many tables it takes."""
    console = Console(width=width, record=True, file=io.StringIO())
    made = tables(COLUMNS, CELLS, width)
    for one in made:
        console.print(one)
    return console.export_text(), len(made)


@pytest.mark.parametrize(("width", "tables_made"), [(140, 1), (80, 1), (60, 2), (44, 3)])
def test_no_figure_is_broken_on_a_narrow_terminal(width: int, tables_made: int) -> None:
    text, made = drawn(width)
    assert made == tables_made
    assert max(map(len, text.splitlines())) <= width
    for figure in ("4.6352", "11.1458", "1.5 d, 251", "not called", "never"):
        assert figure in text
    # A line a policy where there is room, else a line a heading.
    assert any("never" in line and "11.1458" in line for line in text.splitlines()) == (width > 100)


def test_a_metric_of_which_less_is_better_is_missed_above_its_level() -> None:
    given = {
        "model": "m", "source": "rows", "rows": 9, "unlabelled": 2, "trained_on": 5, "refused": 0,
        "start": T0, "end": T0 + DAY, "tick": DAY, "seed": 1, "labels_come": "late",
        "accepted": 1.0, "fall": 0.5, "changes": (), "judged_by": "hindsight", "policies": (),
    }  # fmt: skip
    less = " ".join(notes(BacktestReport(primary="mae", **given)))
    more = " ".join(notes(BacktestReport(primary="accuracy", **given)))
    assert "mae lies more than 0.5 above the accepted level" in less
    assert "accuracy lies more than 0.5 below the accepted level" in more
    assert "2 of the rows never got a label that counts" in less


def test_a_window_that_history_breaks_off_is_not_drawn() -> None:
    def of(day: int, rows: int, value: float = 0.9) -> DayPoint:
        return point(day).model_copy(update={"rows": rows, "value": value})

    result = PolicyResult.model_construct(
        points=(of(0, 200), of(1, 190), of(2, 150, float("nan")), of(3, 21), of(4, 1, 0.0))
    )
    assert [p.start for p in drawn_points(result)] == [T0, T0 + DAY, T0 + 3 * DAY]
    assert drawn_points(PolicyResult.model_construct(points=())) == []
