"""How far back a training looks: after an abrupt change, and when nothing changed."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliotrope.adapters.onnx_model import OnnxScorer
from heliotrope.adapters.sklearn_model import SklearnTrainer
from heliotrope.domain.memory import memories
from heliotrope.domain.split import split_rows
from heliotrope.domain.training import TrainingRecord
from heliotrope.ports import LabelledRows
from heliotrope.service.training import train
from heliotrope.spec import ModelSpec, Retraining, Split, parse_spec

START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 6_000


def spec_of(trainer: str = "{parameters: {max_iter: 40}}", retraining: str = "{}") -> ModelSpec:
    return parse_spec(f"""
name: turning
task: binary
label: {{name: y, positive: true}}
event_time: at
source: {{path: x.parquet}}
features:
  - {{name: a, type: float}}
  - {{name: b, type: float}}
metrics: {{primary: roc_auc}}
trainer: {trainer}
retraining: {retraining}
""")


class World:
    """One row a minute; what `a` means turns round at `changed_row`."""

    def __init__(self, spec: ModelSpec, changed_row: int, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.spec, self.rows = spec, ROWS
        self.features = rng.normal(size=(ROWS, 2)).astype(np.float32)
        sign = np.where(np.arange(ROWS) < changed_row, 1.0, -1.0)
        signal = 3 * sign * self.features[:, 0] + self.features[:, 1]
        self.labels = (signal + rng.logistic(size=ROWS) > 0).astype(np.int8)

    def event_time(self) -> Any:
        first = np.datetime64(START.replace(tzinfo=None), "us")
        return first + np.arange(ROWS) * np.timedelta64(60_000_000, "us")

    def class_counts(self, rows: range) -> Mapping[str, int]:
        found = np.bincount(self.labels[rows.start : rows.stop], minlength=2)
        return dict(zip(self.spec.classes, map(int, found), strict=True))

    def load(self, rows: range) -> LabelledRows:
        part = slice(rows.start, rows.stop)
        ids = np.arange(rows.start, rows.stop)
        return LabelledRows(self.features[part], self.labels[part], ids)


def trained(world: World, out: Path, changed_row: int | None) -> tuple[TrainingRecord, float]:
    """The record, and the share of the holdout that the model gets right."""
    at = None if changed_row is None else START + timedelta(minutes=changed_row)
    record = train(world.spec, world, SklearnTrainer(), out, lambda: 0.0, at)
    rows = world.load(range(record.holdout.row_from, record.holdout.row_to))
    scores = OnnxScorer(out / "model.onnx").score(rows.features)
    return record, float(np.mean((scores >= 0.5) == rows.labels))


def test_after_an_abrupt_change_the_new_world_is_learnt_and_judged_on(tmp_path):
    world = World(spec_of(), changed_row=4_800)
    blind, stale = trained(world, tmp_path / "blind", None)
    record, right = trained(world, tmp_path / "knowing", 4_800)
    # A split that does not know of the change holds the new world out: nothing can learn it.
    assert blind.memory is None
    assert stale < 0.3
    assert record.holdout.row_from > 4_800
    assert record.changed_at == START + timedelta(minutes=4_800)
    assert record.memory is not None
    assert record.memory.chosen == "since the change"
    assert record.train.row_from == 4_800
    assert right > 0.8
    assert TrainingRecord.from_json(record.to_json()) == record


def test_when_nothing_changed_all_of_history_is_kept(tmp_path):
    world = World(spec_of(retraining="{memory_rows: [300]}"), changed_row=ROWS)
    record, right = trained(world, tmp_path / "m", None)
    assert record.memory is not None
    assert {one.memory.name for one in record.memory.tried} == {
        "all", "newest 300", "all, newest 300 x3",
    }  # fmt: skip
    assert record.memory.chosen.startswith("all")
    assert record.train.row_from == 0
    assert right > 0.8


def test_an_estimator_without_weights_goes_without_that_memory(monkeypatch, tmp_path):
    (tmp_path / "builders").mkdir()
    source = (
        "from sklearn.neighbors import KNeighborsClassifier\n\n"
        "def neighbours(spec):\n    return KNeighborsClassifier(n_neighbors=15)\n"
    )
    (tmp_path / "builders" / "own_neighbours.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path / "builders"))
    spec = spec_of("{build: 'own_neighbours:neighbours'}", "{memory_rows: [1000]}")
    record, _ = trained(World(spec, ROWS), tmp_path / "m", None)
    assert record.memory is not None
    notes = {one.memory.name: one.note for one in record.memory.tried}
    assert "sample_weight" in notes["all, newest 1,000 x3"]
    assert notes["all"] == ""


@pytest.mark.parametrize(
    ("changed", "rows", "weight", "names"),
    [
        (None, (), 3.0, ["all"]),
        (None, (5_000, 100), 3.0, ["all"]),
        (None, (400,), 1.0, ["all", "newest 400"]),
        (900, (), 3.0, ["all"]),
        (0, (), 3.0, ["all"]),
        (600, (), 2.0, ["all", "since the change", "all, newest 400 x2"]),
    ],
)
def test_only_memories_that_differ_and_are_long_enough_are_tried(changed, rows, weight, names):
    policy = Retraining(memory_rows=rows, recent_weight=weight)
    assert [one.name for one in memories(range(1_000), policy, changed)] == names


@pytest.mark.parametrize(
    ("changed", "minimum", "sizes"),
    [(None, 0, (200, 200)), (800, 0, (40, 40)), (800, 100, (50, 100)), (0, 0, (200, 200))],
)
def test_later_parts_are_shares_of_what_came_since_the_change(changed, minimum, sizes):
    split = Split(holdout=0.2, calibration=0.2)
    parts = split_rows(1_000, None, split, changed, minimum)
    assert (len(parts.calibration), len(parts.holdout)) == sizes
    assert parts.train.start == 0
    assert parts.holdout.stop == 1_000
