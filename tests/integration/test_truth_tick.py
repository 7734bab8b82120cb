"""Ticks over real Delta tables: whatever the order, batching and repetition, the same truth."""

import math
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from heliotrope.adapters.delta_feed import DeltaFeed
from heliotrope.adapters.truth_engine import DuckDBTruthEngine
from heliotrope.adapters.truth_state import TruthState
from heliotrope.domain.truth.documents import Maturity, WindowTruth
from heliotrope.domain.truth.feed import FeedStep
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.errors import ConflictError
from heliotrope.service.truth import TickLimits, Truth
from heliotrope.spec import parse_spec
from tests.fixtures.truth import (
    DAY0,
    LATER,
    PLAN,
    PREDICTIONS,
    SPEC,
    Event,
    entity_label,
    label,
    prediction,
    write,
)


def truth_of(folder: Path, engine: DuckDBTruthEngine, limits: TickLimits | None = None) -> Truth:
    feed = DeltaFeed(str(folder / "store"), "loans")
    state = TruthState(folder / "truth.db")
    return Truth(PLAN, feed, engine, state, limits or TickLimits())


def whole(truth: Truth, now: datetime = LATER) -> list[WindowTruth]:
    return [window for window in truth.windows(now) if window.slice is None]


def expected(predictions: list[Event], labels: list[Event]) -> dict[Any, tuple[int, int, int]]:
    """Predicted, labelled and right by day, version, role: the contract read out loud, no SQL."""
    known: dict[Any, Event] = {}
    for row in sorted(predictions, key=lambda row: (row["predicted_at"], row["score"])):
        known.setdefault((row["prediction_id"], row["version"], row["role"]), row)
    first: dict[Any, Event] = {}
    for row in sorted(labels, key=lambda row: (row["received_at"], row["label"] == "late")):
        first.setdefault((row["prediction_id"], row["entity_key"], row["label_id"]), row)

    def until(row: Event) -> datetime:
        return row["happened_at"] or row["received_at"]

    found: dict[Any, tuple[int, int, int]] = {}
    for row in known.values():
        own = [one for one in first.values() if one["prediction_id"] == row["prediction_id"]]
        if not own and row["entity_key"] is not None:
            own = [
                one for one in first.values()
                if one["entity_key"] == row["entity_key"] and until(one) >= row["predicted_at"]
            ]  # fmt: skip
        last = max(own, key=lambda one: (one["received_at"], until(one), one["label_id"]),
                   default=None)  # fmt: skip
        right = last is not None and (last["label"] == "late") == (row["prediction"] == "late")
        key = (row["predicted_at"].date(), row["version"], row["role"])
        predicted, labelled, hits = found.get(key, (0, 0, 0))
        found[key] = (predicted + 1, labelled + (last is not None), hits + right)
    return found


def seen(truth: Truth) -> dict[Any, tuple[int, int, int]]:
    return {
        (w.window_from.date(), w.version, w.role): (
            w.predicted,
            w.labelled,
            round(w.metrics["accuracy"].value * w.labelled) if w.labelled else 0,
        )
        for w in whole(truth)
    }


IDS = [f"p{number}" for number in range(8)]
ENTITIES = [None, "e1", "e2"]
predictions_strategy = st.lists(
    st.builds(
        prediction, st.sampled_from(IDS), st.integers(-30, 60),
        st.sampled_from([0.0, 0.1, 0.49, 0.5, 0.93, 1.0]),
        version=st.sampled_from(["1", "2"]), role=st.sampled_from(["champion", "shadow"]),
        entity_key=st.sampled_from(ENTITIES), f_grade=st.sampled_from(["A", "B", "Z", None]),
        f_income=st.sampled_from([None, 9.0, 10.0, 19.9, 20.0, math.nan]),
    ), max_size=14,
)  # fmt: skip
hours = st.integers(-40, 70)
happened = st.one_of(st.none(), hours.map(lambda h: DAY0 + timedelta(hours=h)))
values = st.sampled_from(["late", "not late", "paid"])
label_keys = st.sampled_from([f"l{number}" for number in range(6)])
labels_strategy = st.lists(
    st.one_of(
        st.builds(label, label_keys, st.sampled_from([*IDS, "nobody"]), values, hours,
                  happened_at=happened),
        st.builds(entity_label, label_keys, st.sampled_from(["e1", "e2", "e3"]), values, hours,
                  happened_at=happened),
    ), max_size=14,
)  # fmt: skip


def distinct(predictions: list[Event]) -> list[Event]:
    """Without two predictions of one key, time and score that differ otherwise: no caller's."""
    kept: dict[Any, Event] = {}
    for row in predictions:
        key = (row["prediction_id"], row["version"], row["role"], row["predicted_at"])
        kept.setdefault((*key, row["score"]), row)
    return list(kept.values())


@settings(
    max_examples=12, deadline=None, derandomize=True,
    phases=[Phase.generate],  # a tick takes long enough that shrinking would not end
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(predictions_strategy, labels_strategy, st.randoms(use_true_random=False), st.data())
def test_any_order_batching_and_repetition_gives_the_truth_of_one_batch(
    tmp_path_factory: pytest.TempPathFactory,
    engine: DuckDBTruthEngine,
    predictions: list[Event],
    labels: list[Event],
    shuffle: random.Random,
    data: st.DataObject,
) -> None:
    predictions = distinct(predictions)
    folder = tmp_path_factory.mktemp("any-order")
    truth = truth_of(folder, engine, TickLimits(chunk_rows=5, batch_rows=3))
    events = [("predictions", row) for row in predictions] + [("labels", row) for row in labels]
    events += [shuffle.choice(events) for _ in range(len(events) // 3)]
    shuffle.shuffle(events)
    while events:
        size = data.draw(st.integers(1, 12))
        for table in ("predictions", "labels"):
            part = [row for name, row in events[:size] if name == table]
            if part:
                write(folder / "store", table, part)
        events = events[size:]
        if data.draw(st.booleans()):
            truth.tick()
        if data.draw(st.integers(0, 4)) == 0:
            compact(folder / "store")
    while truth.tick().behind:
        pass
    assert truth.state.cells(PLAN) == truth.recomputed_cells()
    assert seen(truth) == expected(predictions, labels)


def compact(store: Path) -> None:
    for table in ("predictions", "labels"):
        if (store / table / "loans").exists():
            DeltaTable(str(store / table / "loans")).optimize.compact()


def test_a_correction_restates_its_window_and_no_other(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    write(tmp_path / "store", "predictions", [prediction("a"), prediction("b", 30)])
    write(tmp_path / "store", "labels", [label("1", "a", "late"), label("2", "b", "not late", 40)])
    truth.tick()
    assert [w.metrics["accuracy"].value for w in whole(truth)] == [0.0, 1.0]
    write(tmp_path / "store", "labels", [label("3", "a", "not late", 30)])
    report = truth.tick()
    assert [w.metrics["accuracy"].value for w in whole(truth)] == [1.0, 1.0]
    assert report.cells == 3, "the whole window and its slice of either feature"


def test_sending_an_old_file_again_undoes_no_correction(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    write(tmp_path / "store", "predictions", [prediction("a")])
    write(tmp_path / "store", "labels", [label("1", "a", "late", 24)])
    write(tmp_path / "store", "labels", [label("2", "a", "not late", 30)])
    truth.tick()
    write(tmp_path / "store", "labels", [label("1", "a", "late", 50)])
    report = truth.tick()
    assert (report.labels, report.repeated_labels) == (0, 1)
    assert whole(truth)[0].metrics["accuracy"].value == 1.0


def test_a_label_before_its_prediction_waits_and_has_no_delay(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    write(tmp_path / "store", "labels", [label("1", "a", "late", -5), label("2", "b", "late")])
    truth.tick()
    assert truth.windows(LATER) == []
    with truth.state.transaction(PLAN) as step:
        assert step.rows.waiting_labels() == 2
    write(tmp_path / "store", "predictions", [prediction("a", score=0.9)])
    truth.tick()
    (window,) = whole(truth)
    assert (window.predicted, window.labelled, window.coverage) == (1, 1, 1.0)
    assert window.delay is not None
    assert window.delay.p99 < 1e-6
    with truth.state.transaction(PLAN) as step:
        assert step.rows.waiting_labels() == 1


def test_an_entity_label_reaches_predictions_up_to_when_it_happened(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    rows = [prediction(name, at, entity_key="e") for name, at in (("a", 1), ("b", 5), ("c", 9))]
    write(tmp_path / "store", "predictions", rows)
    happened_at = DAY0 + timedelta(hours=5)
    mine = entity_label("1", "e", "not late", 90, happened_at=happened_at)
    write(tmp_path / "store", "labels", [mine, label("2", "a", "late", 10)])
    truth.tick()
    (window,) = whole(truth)
    assert (window.predicted, window.labelled) == (3, 2)
    assert window.metrics["accuracy"].value == 0.5, "the label by id wins over the entity's"


def test_a_tick_reads_only_new_commits_and_skips_compaction(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    for number in range(3):
        write(tmp_path / "store", "predictions", [prediction(f"p{number}", number)])
    truth.tick()
    compact(tmp_path / "store")
    steps = list(truth.feed.steps("predictions", 2))
    assert [(step.version, step.files) for step in steps] == [(3, ())]
    write(tmp_path / "store", "predictions", [prediction("new", 5)])
    report = truth.tick()
    assert (report.predictions, report.repeated_predictions) == (1, 0)
    assert truth.tick().transactions == 0


def test_vacuumed_files_and_a_cleaned_log_lose_and_repeat_nothing(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    write(tmp_path / "store", "predictions", [prediction("a"), prediction("b")])
    truth.tick()
    write(tmp_path / "store", "predictions", [prediction("c"), prediction("d")])
    compact(tmp_path / "store")
    table = DeltaTable(str(tmp_path / "store/predictions/loans"))
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    truth.tick()
    assert whole(truth)[0].predicted == 4
    write(tmp_path / "store", "predictions", [prediction("e")])
    write(tmp_path / "store", "predictions", [prediction("f")])
    table = DeltaTable(str(tmp_path / "store/predictions/loans"))
    table.create_checkpoint()
    for commit in (tmp_path / "store/predictions/loans/_delta_log").glob("*.json"):
        if int(commit.stem) < table.version():
            commit.unlink()
    report = truth.tick()
    assert (report.predictions, report.repeated_predictions) == (2, 4)
    assert whole(truth)[0].predicted == 6


def test_a_tick_that_fails_half_way_leaves_nothing_and_the_next_is_complete(
    tmp_path: Path, engine: DuckDBTruthEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = truth_of(tmp_path, engine)
    write(tmp_path / "store", "predictions", [prediction("a", score=0.9)])
    truth.tick()
    write(tmp_path / "store", "labels", [label("1", "a", "late")])
    with monkeypatch.context() as patch:
        patch.setattr("heliotrope.service.truth.fold", _disk_full)
        with pytest.raises(OSError, match="disk full"):
            truth.tick()
    assert whole(truth)[0].labelled == 0
    truth.tick()
    assert whole(truth)[0].labelled == 1
    assert truth.state.cells(PLAN) == truth.recomputed_cells()


def _disk_full(*_: object, **__: object) -> None:
    raise OSError("disk full")


KILLED = """
import os, signal, sys
from pathlib import Path
from heliotrope.adapters.delta_feed import DeltaFeed
from heliotrope.adapters.truth_engine import duckdb_truth
from heliotrope.adapters.truth_state import TruthState, TruthTransaction
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.service.truth import Truth
from heliotrope.spec import parse_spec
folder = Path(sys.argv[1])
move = TruthTransaction.move_cursor
def die(self, table, version):
    move(self, table, version)
    os.kill(os.getpid(), signal.SIGKILL)
TruthTransaction.move_cursor = die
with duckdb_truth() as engine:
    plan = TruthPlan.of(parse_spec((folder / "spec.yaml").read_text()))
    Truth(plan, DeltaFeed(str(folder / "store"), "loans"), engine,
          TruthState(folder / "truth.db")).tick()
"""


def test_a_process_killed_before_its_commit_counts_nothing_twice(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    write(tmp_path / "store", "predictions", [prediction("a"), prediction("b")])
    write(tmp_path / "store", "labels", [label("1", "a", "late")])
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=120)
    assert died.returncode == -9
    truth = truth_of(tmp_path, engine)
    assert truth.windows(LATER) == []
    assert truth.tick().predictions == 2
    assert seen(truth) == {(DAY0.date(), "1", "champion"): (2, 1, 0)}


def test_a_second_process_is_refused_while_one_ticks(
    tmp_path: Path, engine: DuckDBTruthEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heliotrope.adapters.truth_state._WAIT_SECONDS", 0.05)
    truth = truth_of(tmp_path, engine)
    with truth.state.transaction(PLAN), pytest.raises(ConflictError, match="must be free"):
        truth.tick()


def test_another_window_length_reads_everything_anew(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    write(tmp_path / "store", "predictions", [prediction("a", 1), prediction("b", 13)])
    truth.tick()
    halves = TruthPlan.of(parse_spec(SPEC.replace("window: 1d", "window: 12h")))
    moved = Truth(halves, truth.feed, engine, truth.state)
    assert moved.windows(LATER) == []
    assert moved.tick().predictions == 2
    assert [w.predicted for w in moved.windows(LATER) if w.slice is None] == [1, 1]


class Growing:
    """A feed whose tables gain a prediction each time that they are looked at, for ever."""

    def __init__(self, folder: Path) -> None:
        self._feed = DeltaFeed(str(folder / "store"), "loans")
        self._store, self.looks = folder / "store", 0

    def steps(self, table: str, after: int | None) -> Iterator[FeedStep]:
        found = list(self._feed.steps(table, after))
        if table == "predictions":
            self.looks += 1
            write(self._store, "predictions", [prediction(f"later{self.looks}", 1)])
        yield from found

    def files(self, table: str) -> tuple[str, ...]:
        return self._feed.files(table)


def test_a_tick_ends_though_events_never_cease(tmp_path: Path, engine: DuckDBTruthEngine) -> None:
    feed = Growing(tmp_path)
    truth = Truth(PLAN, feed, engine, TruthState(tmp_path / "truth.db"))
    write(tmp_path / "store", "predictions", [prediction("first")])
    write(tmp_path / "store", "labels", [label("l", "first", "late")])
    first, second = truth.tick(), truth.tick()
    # The first of all reads history in one go, and then what came while it did.
    assert (first.predictions, first.labels, first.behind) == (2, 1, False)
    assert (second.predictions, second.transactions) == (1, 1)
    # What it left is not lost.
    assert [(w.predicted, w.labelled) for w in whole(truth)] == [(feed.looks, 1)]


def test_a_tick_takes_on_so_much_and_says_that_there_is_more(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    limits = TickLimits(chunk_rows=1, transactions=2)
    truth = truth_of(tmp_path, engine, limits)
    for number in range(6):
        write(tmp_path / "store", "predictions", [prediction(f"p{number}")])
        if number == 0:
            truth.tick()
    ticks = [truth.tick() for _ in range(4)]
    assert [(tick.predictions, tick.behind) for tick in ticks] == [
        (2, True), (2, True), (1, False), (0, False)
    ]  # fmt: skip
    assert whole(truth)[0].predicted == 6


def test_no_tables_give_no_windows(tmp_path: Path, engine: DuckDBTruthEngine) -> None:
    truth = truth_of(tmp_path, engine)
    assert truth.tick().transactions == 0
    assert truth.windows(LATER) == []
    assert truth.recomputed(LATER) == []


def test_odd_rows_are_counted_and_judged_only_where_they_can_be(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    odd = [None, math.nan, math.inf, -0.1, 1.1]
    rows = [prediction(f"p{place}", score=score) for place, score in enumerate(odd)]
    rows += [prediction("ok"), prediction("nobody", version=None, role=None)]
    write(tmp_path / "store", "predictions", rows)
    labels = [label(f"l{place}", f"p{place}", "late") for place in range(len(odd))]
    labels += [label("x", "ok", None), label("y", None, "late"), label("z", "ok", "not late")]
    write(tmp_path / "store", "labels", labels)
    report = truth.tick()
    assert report.unusable_labels == 2
    first = next(w for w in whole(truth) if w.version == "1")
    assert (first.predicted, first.labelled, first.unjudged) == (6, 1, 5)
    assert first.metrics["accuracy"].value == 1.0
    assert math.isnan(first.metrics["roc_auc"].value), "one class only"
    assert truth.state.cells(PLAN) == truth.recomputed_cells()


def test_a_prediction_from_the_future_never_matures(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    write(tmp_path / "store", "predictions", [prediction("skewed", 24 * 365 * 200)])
    write(tmp_path / "store", "labels", [label("1", "skewed", "late")])
    truth.tick()
    (window,) = whole(truth)
    assert (window.maturity, window.coverage) == (Maturity.FUTURE, 1.0)


def test_files_without_a_slice_feature_count_it_as_missing(
    tmp_path: Path, engine: DuckDBTruthEngine
) -> None:
    truth = truth_of(tmp_path, engine)
    old = pa.Table.from_pylist([prediction("a")], schema=PREDICTIONS).drop_columns(["f_income"])
    write_deltalake(str(tmp_path / "store/predictions/loans"), old, partition_by=["day"])
    truth.tick()
    assert [w.slice for w in truth.windows(LATER)] == [None, "grade = A", "income missing"]
