"""A truth held in memory says what the state says, whatever changed and whoever changed it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from heliotrope.adapters.delta_feed import DeltaFeed
from heliotrope.adapters.truth_engine import DuckDBTruthEngine
from heliotrope.adapters.truth_state import TruthState
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.service.truth import Truth
from heliotrope.service.truth_book import TruthBook
from heliotrope.service.truth_duty import TruthDuty
from heliotrope.spec import parse_spec
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board
from heliotrope.telemetry.metric import Metric

SPEC = """
name: loans
task: binary
label: {name: y, positive: late, delay: 3d}
event_time: at
source: {path: nowhere.parquet}
features: [{name: grade, type: category, categories: [A, B]}]
metrics: {primary: accuracy}
slices: [{feature: grade}]
"""
DAY0 = datetime(2026, 3, 2, tzinfo=UTC)
LATER = DAY0 + timedelta(days=60)


def truth_of(folder: Path, engine: DuckDBTruthEngine, spec: str = SPEC) -> Truth:
    plan = TruthPlan.of(parse_spec(spec))
    state = TruthState(folder / "truth.db")
    return Truth(plan, DeltaFeed(str(folder / "store"), "loans"), engine, state)


def predict(folder: Path, name: str, hours: float, **more: Any) -> None:
    at = DAY0 + timedelta(hours=hours)
    row = {
        "prediction_id": name, "version": "1", "role": "champion", "predicted_at": at,
        "received_at": at + timedelta(seconds=2), "prediction": "late", "score": 0.7,
        "f_grade": "A", "day": at.date(), **more,
    }  # fmt: skip
    write_deltalake(str(folder / "store/predictions/loans"), pa.Table.from_pylist([row]),
                    mode="append", partition_by=["day"])  # fmt: skip


def tell(folder: Path, key: str, target: str, value: str, hours: float) -> None:
    at = DAY0 + timedelta(hours=hours)
    row = {"label_id": key, "prediction_id": target, "label": value, "received_at": at,
           "day": at.date()}  # fmt: skip
    write_deltalake(str(folder / "store/labels/loans"), pa.Table.from_pylist([row]),
                    mode="append", partition_by=["day"])  # fmt: skip


def told(source: Truth | TruthBook) -> list[str]:
    """As text, since NaN is not itself."""
    return [window.to_json() for window in source.windows(LATER)]


def test_the_book_follows_new_rows_corrections_and_what_moved_away(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    book = TruthBook(truth)
    assert book.refresh() is False
    assert book.windows(LATER) == []
    predict(tmp_path, "a", 1)
    predict(tmp_path, "b", 30)
    truth.tick()
    assert book.refresh() is True
    assert told(book) == told(truth)
    assert book.newest == DAY0 + timedelta(hours=30)
    tell(tmp_path, "1", "a", "late", 40)
    truth.tick()
    assert book.refresh() is True
    assert book.totals() == {("1", "champion"): (2, 1, 1)}
    tell(tmp_path, "2", "a", "not late", 50)
    # An earlier copy of b moves it, and its window, to the first day.
    predict(tmp_path, "b", 2, received_at=DAY0 - timedelta(days=1))
    truth.tick()
    assert book.refresh() is True
    assert told(book) == told(truth)
    assert [w.predicted for w in book.windows(LATER, slices=False)] == [2]
    assert book.totals() == {("1", "champion"): (2, 1, 0)}
    truth.tick()
    assert book.refresh() is False


def test_a_state_that_was_emptied_and_made_anew_is_read_whole(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    book = TruthBook(truth)
    predict(tmp_path, "a", 1)
    truth.tick()
    book.refresh()
    other = truth_of(tmp_path, engine, SPEC.replace("slices: [{feature: grade}]", ""))
    other.tick()
    assert book.refresh() is True
    assert book.windows(LATER) == []
    truth.tick()
    assert book.refresh() is True
    assert told(book) == told(truth) != []


def test_windows_can_be_picked(tmp_path: Path, engine: DuckDBTruthEngine) -> None:
    truth = truth_of(tmp_path, engine)
    book = TruthBook(truth)
    for name, hours in (("a", 1), ("b", 30), ("c", 60)):
        predict(tmp_path, name, hours)
    truth.tick()
    book.refresh()
    keys = [key for key, _ in book.newest_first() if key.axis == -1][:2]
    picked = book.of_keys(LATER, keys)
    assert {key: window.window_from for key, window in picked.items()} == {
        keys[0]: DAY0 + timedelta(days=2),
        keys[1]: DAY0 + timedelta(days=1),
    }


class Exported:
    """A duty on a truth, and what it put on its board."""

    def __init__(self, folder: Path, engine: DuckDBTruthEngine) -> None:
        self.board = Board(metrics.CONTROLLER_METRICS)
        book = TruthBook(truth_of(folder, engine))
        self.duty = TruthDuty(parse_spec(SPEC), book, self.board)

    def at(self, now: datetime, metric: Metric) -> dict[tuple[str, ...], float]:
        """The series of a metric after a run at a time, without the model's name."""
        self.duty.run(now)
        return {labels[1:]: value for labels, value in self.board.snapshot(metric)}


CHAMPION = ("1", "champion")


def test_only_windows_that_may_be_judged_on_are_exported(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    for day in range(4):
        for n in range(2):
            predict(tmp_path, f"{day}-{n}", 24 * day + n, f_grade="AB"[n])
    for day, value in ((0, "late"), (1, "not late"), (3, "late")):
        tell(tmp_path, f"l{day}", f"{day}-0", value, 24 * day + 5)
    shown = Exported(tmp_path, engine)
    ripe = [DAY0 + timedelta(days=4 + day, minutes=1) for day in range(5)]
    # One of two labelled is too few, so a window is mature three days after its end.
    assert shown.at(DAY0 + timedelta(days=3, hours=23), metrics.MODEL_ACCURACY) == {}
    assert shown.at(ripe[0], metrics.MODEL_ACCURACY) == {CHAMPION: 1.0}
    assert shown.at(ripe[1], metrics.MODEL_ACCURACY) == {CHAMPION: 0.0}
    assert shown.at(ripe[1], metrics.TRUTH_COVERAGE) == {CHAMPION: 0.5}
    # The third day has no label at all: its coverage is told, the accuracy stays the day before's.
    assert shown.at(ripe[2], metrics.TRUTH_COVERAGE) == {CHAMPION: 0.0}
    assert shown.at(ripe[2], metrics.MODEL_ACCURACY) == {CHAMPION: 0.0}
    assert shown.at(ripe[3], metrics.TRUTH_METRIC) == {
        (*CHAMPION, "", "accuracy"): 1.0,
        (*CHAMPION, "grade = A", "accuracy"): 1.0,
    }
    # And a clock that goes back takes it back.
    assert shown.at(ripe[0], metrics.MODEL_ACCURACY) == {CHAMPION: 1.0}
    assert shown.at(ripe[0], metrics.TRUTH_COVERAGE) == {CHAMPION: 0.5}
    assert shown.at(ripe[0], metrics.CORRECT_PREDICTIONS) == {CHAMPION: 2}
    assert shown.at(ripe[0], metrics.LABELLED_PREDICTIONS) == {CHAMPION: 3}


def test_versions_that_are_gone_vanish_and_the_last_champion_stays(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    for version, role, hours in (("1", "champion", 1), ("2", "shadow", 2), ("3", "champion", 30)):
        predict(tmp_path, version, hours, version=version, role=role)
    shown = Exported(tmp_path, engine)
    soon = shown.at(DAY0 + timedelta(days=9), metrics.TRUTH_ESTIMATE)
    assert {labels[0] for labels in soon} == {"1", "2", "3"}
    late = shown.at(DAY0 + timedelta(days=400), metrics.TRUTH_ESTIMATE)
    assert {labels[0] for labels in late} == {"3"}


def test_a_prediction_ahead_of_the_clock_is_not_the_newest(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    predict(tmp_path, "a", 1)
    shown = Exported(tmp_path, engine)
    now = DAY0 + timedelta(hours=2)
    expected = {(): (DAY0 + timedelta(hours=1)).timestamp()}
    assert shown.at(now, metrics.TRUTH_NEWEST_PREDICTION) == expected
    predict(tmp_path, "b", 24 * 365)
    assert shown.at(now, metrics.TRUTH_NEWEST_PREDICTION) == expected


def test_what_is_known_is_exported_also_while_the_store_cannot_be_read(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    predict(tmp_path, "a", 1)
    Exported(tmp_path, engine).duty.run(LATER)
    (tmp_path / "store/predictions/loans/_delta_log" / f"{1:020d}.json").write_text("{ not json")
    again = Exported(tmp_path, engine)
    with pytest.raises(ValueError, match="property name"):
        again.duty.run(LATER)
    assert again.board.snapshot(metrics.TRUTH_ESTIMATE)
