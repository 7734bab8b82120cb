"""What the truth keeps is bounded by the horizon of labels, and nothing within it is lost."""

import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from heliotrope.adapters.delta_feed import DeltaFeed
from heliotrope.adapters.truth_engine import DuckDBTruthEngine
from heliotrope.adapters.truth_state import TruthState
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.errors import SpecError
from heliotrope.service.truth import TickLimits, TickReport, Truth
from heliotrope.spec import parse_spec
from tests.fixtures.truth import (
    DAY0,
    PLAN,
    SPEC,
    Event,
    entity_label,
    label,
    prediction,
    write,
)  # fmt: skip

DAY = timedelta(days=1)
HORIZON = 10 * DAY
SHORT = replace(PLAN, horizon_us=HORIZON // timedelta(microseconds=1))


class Log:
    """One log of events, read by a truth that forgets and by one that does not."""

    def __init__(self, folder: Path, engine: DuckDBTruthEngine) -> None:
        self.store, self._states = folder / "store", folder
        self.forgets = self._truth(engine, SHORT, "short")
        self.keeps = self._truth(engine, PLAN, "long")

    def _truth(self, engine: DuckDBTruthEngine, plan: TruthPlan, name: str) -> Truth:
        feed, state = DeltaFeed(str(self.store), "loans"), TruthState(self._states / name)
        return Truth(plan, feed, engine, state, TickLimits(batch_rows=50))

    def add(self, predictions: list[Event], labels: list[Event] | None = None) -> None:
        for table, rows in (("predictions", predictions), ("labels", labels or [])):
            if rows:
                write(self.store, table, rows)

    def tick(self, day: float) -> TickReport:
        self.keeps.tick()
        return self.forgets.tick(DAY0 + day * DAY)

    def same(self) -> bool:
        return self.forgets.state.cells(SHORT) == self.keeps.state.cells(PLAN)

    def kept(self, table: str, name: str = "short") -> int:
        with closing(sqlite3.connect(self._states / name)) as found:
            return int(found.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def test_the_state_stays_as_large_as_the_horizon_and_every_window_as_it_was(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    log, dice = Log(tmp_path, engine), random.Random(5)
    each, days = 12, 45
    for day in range(days):
        new = [
            prediction(f"p{day}-{n}", day * 24 + n, dice.random(), entity_key=f"e{day}-{n}")
            for n in range(each)
        ]
        again = [prediction(f"p{day - 3}-{n}", (day - 3) * 24 + n) for n in range(3)]
        late = [
            label(f"l{day}-{n}-{delay}", f"p{day - delay}-{n}", dice.choice(["late", "not late"]),
                  day * 24 + 5)
            for delay in (2, 6, 8) for n in range(4)
        ]  # fmt: skip
        whose = [
            entity_label(
                f"s{day}-{n}", f"e{day - 5}-{n}", "late", day * 24 + 6, happened_at=DAY0 + day * DAY
            )
            for n in range(4, 8)
        ]
        log.add([*new, *(again if day >= 3 else [])], [*late, *whose])
        log.tick(day + 1)
    assert log.same()
    assert log.kept("predictions", "long") > days * each * 0.9
    assert log.kept("predictions") <= 1.5 * each * (HORIZON / DAY + 2)
    assert log.kept("labels") <= 0.5 * log.kept("labels", "long")


def test_what_comes_beyond_the_horizon_restates_nothing_and_is_counted_once(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    log = Log(tmp_path, engine)
    log.add([prediction("old", score=0.9)], [label("1", "old", "late")])
    log.tick(1)
    log.add([prediction(f"new{n}", 24 * 30) for n in range(8)])
    assert log.tick(30).forgotten == 2
    before = log.forgets.state.cells(SHORT)
    # Again, never seen, and corrected: all of it twenty days too late.
    log.add(
        [prediction("old", score=0.9), prediction("older", -24)],
        [label("2", "old", "not late", 24 * 30)],
    )
    report = log.tick(31)
    assert (report.predictions, report.late_predictions, report.labels) == (0, 2, 1)
    assert log.forgets.state.cells(SHORT) == before


def test_a_label_within_the_horizon_waits_for_its_prediction_and_a_correction_takes_one_off(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    log = Log(tmp_path, engine)
    log.add([prediction("a", score=0.9)], [label("1", "a", "late", -24), label("2", "b", "late")])
    log.tick(1)
    for day in range(2, 10):
        log.add([prediction(f"p{day}", 24 * day)])
        log.tick(day)
    log.add([prediction("b", 24, 0.9)], [label("3", "a", "not late", 24 * 9)])
    log.tick(9.5)
    assert log.same()
    whole = [window for window in log.forgets.windows(DAY0 + 60 * DAY) if window.slice is None]
    assert [window.labelled for window in whole[:2]] == [1, 1]
    assert whole[0].metrics["accuracy"].value == 0.0


def test_one_prediction_from_the_far_future_takes_no_other_with_it(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    log = Log(tmp_path, engine)
    log.add([prediction("a"), prediction("wrong clock", 24 * 365 * 50)])
    log.tick(1)
    log.add([prediction("b", 24)], [label("1", "a", "late", 30)])
    report = log.tick(2)
    assert (report.forgotten, report.late_predictions) == (0, 0)
    assert log.same()


def test_a_log_that_is_read_from_its_beginning_again_counts_nothing_twice(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    log = Log(tmp_path, engine)
    log.add([prediction(f"a{n}", n) for n in range(5)])
    log.tick(1)
    log.add([prediction(f"b{n}", 24 * 30 + n) for n in range(5)])
    log.tick(31)
    assert log.kept("predictions") == 5
    log.add([prediction("c", 24 * 31)])
    log.add([prediction("d", 24 * 31)])
    table = DeltaTable(str(log.store / "predictions/loans"))
    table.create_checkpoint()
    for commit in (log.store / "predictions/loans/_delta_log").glob("*.json"):
        if int(commit.stem) < table.version():
            commit.unlink()
    report = log.tick(32)
    assert (report.predictions, report.late_predictions) == (2, 5)
    assert log.same()


def test_a_horizon_has_a_generous_default_and_is_never_below_the_delay() -> None:
    assert parse_spec(SPEC).label.restated_for == 90 * DAY
    assert parse_spec(SPEC.replace("delay: 3d", "delay: 30d")).label.restated_for == 120 * DAY
    with pytest.raises(SpecError, match=r"label\.horizon must be at least label\.delay"):
        parse_spec(SPEC.replace("delay: 3d", "delay: 3d, horizon: 2d"))
