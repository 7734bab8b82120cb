"""No decision of a backtest rests on what had not come by its time."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliotrope.adapters.duckdb_engine import DuckDBEngine, duckdb_engine
from heliotrope.adapters.embedded.backtest_world import BacktestWorld, Shared
from heliotrope.adapters.onnx_model import OnnxScorer
from heliotrope.adapters.sklearn_model import SklearnTrainer
from heliotrope.domain.backtest.history import History, answers_of, stamp
from heliotrope.domain.backtest.policy import Policy, PolicyKind
from heliotrope.domain.serving_plan import Revision, ServingPlan
from heliotrope.ports.replay import LoggedRequest
from heliotrope.service.backtest import Span, play
from heliotrope.service.backtest_training import Shelf
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.vocabulary import Role

SPEC = parse_spec("""
name: flip
task: binary
event_time: at
label: {name: y, positive: true, delay: 6h}
source: {path: rows.csv}
features: [{name: a, type: float}, {name: b, type: float}]
trainer: {parameters: {max_iter: 15, max_leaf_nodes: 6, learning_rate: 0.4}}
metrics: {primary: accuracy}
validation: {minimum_rows: 200}
gates: {minimum_rows: 100, minimum_positives: 20, tolerance: 0.1}
monitoring: {window: 12h, minimum_rows: 50, fall: 0.1}
retraining: {cooldown: 1h, minimum_new_labels: 200}
rollout: {shadow: {share: 1.0, minimum_labels: 40, backfill: 1d}, steps: [100], bake: 0s}
""")
START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS, A_DAY, TURN = 9, 200, START + timedelta(days=5, hours=12)


def history(seed: int = 5) -> History:
    random = np.random.default_rng(seed)
    count = DAYS * A_DAY
    at = stamp(START) + np.arange(count) * np.timedelta64(86_400 // A_DAY, "s")
    matrix = random.normal(size=(count, 2)).astype(np.float32)
    says = np.where(at < stamp(TURN), matrix[:, 0], matrix[:, 1]) > 0
    label = (says ^ (random.random(count) < 0.03)).astype(np.float64)
    # Some labels come at once, some later than the spec says, some never.
    late = random.choice([0, 6, 6, 6, 11], count) * np.timedelta64(3600, "s")
    told = np.where(random.random(count) < 0.05, np.datetime64("NaT", "us"), at + late)
    return History(
        at, np.where(np.isnat(told), np.nan, label), told, matrix,
        pa.table({"a": matrix[:, 0], "b": matrix[:, 1]}), "rows",
    )  # fmt: skip


def with_another_future(past: History, now: datetime, seed: int) -> History:
    """The same up to a time: labels that come later are others, or come at another time."""
    random = np.random.default_rng(seed)
    ahead = ~(past.told <= stamp(now))
    label, told = past.label.copy(), past.told.copy()
    label[ahead] = random.integers(0, 2, ahead.sum())
    told[ahead] = np.maximum(
        past.at[ahead], stamp(now)
    ) + random.integers(1, 90_000, ahead.sum()) * np.timedelta64(1, "s")  # fmt: skip
    return replace(past, label=label, told=told)


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    with duckdb_engine() as made:
        yield made


class Guess:
    """A version whose answers are one feature's sign."""

    def score(self, features: Any) -> Any:
        return 1 / (1 + np.exp(-features[:, 0].astype(np.float64)))


def world_of(past: History, engine: DuckDBEngine, folder: Path, spec: ModelSpec = SPEC) -> Any:
    shared = Shared(past, Shelf(SklearnTrainer(), folder / "shelf"), OnnxScorer, engine)
    return BacktestWorld(spec, shared, START, folder)


def seen(past: History, now: datetime, engine: DuckDBEngine) -> list[Any]:
    """All that a duty could read at a time."""
    with tempfile.TemporaryDirectory() as name:
        world = world_of(past, engine, Path(name))
        world._versions["1"] = answers_of(SPEC, Guess().score(past.matrix))
        champion = Revision(version="1", role=Role.CHAMPION)
        world.serving.apply(
            ServingPlan(
                model="flip", revisions=(champion,), weights={"1": 100}, at=START, reason="-"
            )
        )
        world.clock.move(now)
        world.play(START, now)
        far = START + timedelta(days=400)
        outcomes = world.outcomes.outcomes(SPEC, START, far, unlabelled=True)
        window = world.outcomes.window(SPEC, START, far, known_by=far)
        return [
            outcomes.prediction_id.tolist(),
            np.nan_to_num(outcomes.label, nan=-1).tolist(),
            outcomes.label_received_at.astype(str).tolist(),
            np.nan_to_num(window.label, nan=-1).tolist(),
            [w.to_json() for w in world.windows(now)],
            world.final_rows(now).content_hash,
            world.serving.traffic("flip", START, now),
        ]


@pytest.mark.timeout(900)
@settings(max_examples=15, deadline=None)
@given(hours=st.integers(13, 24 * DAYS - 1), seed=st.integers(0, 2**16))
def test_what_can_be_read_at_a_time_is_the_same_whatever_comes_later(
    engine: DuckDBEngine, hours: int, seed: int
) -> None:
    past, now = history(), START + timedelta(hours=hours)
    other = with_another_future(past, now, seed)
    assert seen(past, now, engine) == seen(other, now, engine)


def test_a_reader_that_looked_ahead_would_be_caught(engine: DuckDBEngine) -> None:
    past = history()
    now = START + timedelta(days=4)
    other = with_another_future(past, now, 1)
    later = now + timedelta(days=1)
    assert seen(past, later, engine) != seen(other, later, engine)


@pytest.mark.timeout(1200)
def test_no_decision_changes_when_labels_that_come_later_do(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    past, cut = history(), START + timedelta(days=7)
    logs = []
    for number, rows in enumerate((past, with_another_future(past, cut, 9))):
        folder = tmp_path / str(number)
        folder.mkdir()
        policy = Policy("as the spec says", PolicyKind.SETTING, SPEC)
        world = world_of(rows, engine, folder)
        start = START + timedelta(days=4)
        world.clock.move(start)
        played = play(policy, world, Span(start, rows.last, timedelta(hours=3)))
        logs.append([d.to_json() for d in played.decisions])
    before = [[text for text in log if _at(text) <= cut] for log in logs]
    assert before[0] == before[1]
    assert before[0]


def _at(text: str) -> datetime:
    from heliotrope.domain.decisions import Decision

    return Decision.from_json(text).at


def test_a_row_that_a_canary_is_asked_again_was_answered_once(
    engine: DuckDBEngine, tmp_path: Path
) -> None:
    past = history()
    world = world_of(past, engine, tmp_path)
    world._versions["1"] = answers_of(SPEC, np.zeros(len(past)))
    world._versions["2"] = answers_of(SPEC, np.ones(len(past)))
    revisions = (
        Revision(version="1", role=Role.CHAMPION),
        Revision(version="2", role=Role.CANARY),
    )
    world.serving.apply(
        ServingPlan(
            model="flip", revisions=revisions, weights={"1": 50, "2": 50}, at=START, reason="-"
        )
    )
    now = START + timedelta(days=1)
    world.clock.move(now)
    count = world.play(START - timedelta(days=1), now)
    before = world.answered()
    assert before.rows.tolist() == list(range(count))
    assert {0, 1} == set(before.says.called.tolist())
    requests = [LoggedRequest(str(row), ()) for row in range(count)]
    world.serving.ask("memory://2", "flip", requests, 1.0)
    after = world.answered()
    assert after.rows.tolist() == before.rows.tolist()
    assert after.says.called.tolist() == before.says.called.tolist()
