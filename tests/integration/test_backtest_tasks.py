"""Backtests of numbers and of several classes: the loop beats a model that is left as it was."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from heliotrope.cli import build_app
from heliotrope.errors import DataFault, HeliotropeError, NotAccepted

HEAD = """
name: turn
event_time: at
source: {path: rows.csv}
features: [{name: a, type: float}, {name: b, type: float}]
trainer: {parameters: {max_iter: 12, max_leaf_nodes: 6, learning_rate: 0.3}, calibrate: false}
split: {holdout: 0.2}
validation: {minimum_rows: 200}
rollout: {shadow: {share: 1.0, minimum_labels: 40, backfill: 1d}, steps: [100], bake: 0s}
retraining: {cooldown: 6h, minimum_new_labels: 400, memory_rows: [400]}
"""
SPECS = {
    "regression": HEAD
    + """
task: regression
label: {name: y, delay: 6h}
metrics: {primary: mae}
gates: {minimum_rows: 50, tolerance: 2}
monitoring: {window: 1d, minimum_rows: 50, fall: 2}
""",
    "multiclass": HEAD
    + """
task: multiclass
label: {name: y, classes: [low, middle, high], delay: 6h}
metrics: {primary: accuracy}
gates: {minimum_rows: 50, minimum_positives: 5, tolerance: 0.1}
monitoring: {window: 1d, minimum_rows: 50, fall: 0.15}
""",
}
START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS, A_DAY = 11, 200
CHANGE = START + timedelta(days=6)


def rows(task: str) -> pd.DataFrame:
    """Rows whose label follows `a`, and from the change on its opposite; of `b` nothing follows."""
    random = np.random.default_rng(3)
    count = DAYS * A_DAY
    at = pd.Series(pd.date_range(START, periods=count, freq=pd.Timedelta(days=1) / A_DAY))
    a, b = random.normal(size=count), random.normal(size=count)
    drives = np.where(at < CHANGE, a, -a) + random.normal(size=count) * 0.1
    label: Any = 50 + 10 * drives
    if task == "multiclass":
        label = np.array(["low", "middle", "high"])[np.digitize(drives, [-0.5, 0.5])]
    return pd.DataFrame({"at": at, "a": a, "b": b, "y": label})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HELIOTROPE_HOME", str(tmp_path / "home"))
    return tmp_path


def run(*words: str) -> str:
    done = CliRunner().invoke(build_app(), ["backtest", "model.yaml", "--history", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("task", "less_is_better", "before", "guess"),
    [("regression", True, 2.5, 10.0), ("multiclass", False, 0.75, 0.6)],
)
def test_after_an_abrupt_change_the_loop_is_better_than_never_by_the_models_own_metric(
    here: Path, task: str, less_is_better: bool, before: float, guess: float
) -> None:
    (here / "model.yaml").write_text(SPECS[task])
    rows(task).to_parquet(here / "rows.parquet")
    when = ["--change", f"{CHANGE:%Y-%m-%d}", "--start", f"{START + timedelta(days=3):%Y-%m-%d}"]
    report = json.loads(run("rows.parquet", *when, "--only", "--tick", "6h", "--json"))
    ours, never = report["policies"]
    sign = -1 if less_is_better else 1

    def better(one: float, other: float) -> bool:
        return sign * one > sign * other

    assert better(report["accepted"], before)
    assert not better(never["value_after"], guess)
    assert better(ours["value_after"], never["value_after"])
    # By the last window the loop has a new champion.
    assert better(ours["points"][-1]["value"], before)
    assert not better(never["points"][-1]["value"], guess)
    assert never["points"][-1]["missed"]
    assert not ours["points"][-1]["missed"]
    assert (never["retrainings"], never["promotions"]) == (0, 0)
    assert ours["promotions"] >= 1
    assert ours["alarms"][0]["true"]
    assert ours["detections"][0]["recovered"] is not None
    assert never["detections"][0]["recovered"] is None
    assert (ours["wrong"] is None) == (task == "regression")
    assert not [p for p in ours["points"] if p["missed"] and p["start"] < f"{CHANGE:%Y-%m-%dT}"]


def odd(task: str, place: slice, label: Any) -> pd.DataFrame:
    """Rows with other labels at some places."""
    found = rows(task).astype({"y": object})
    found.loc[found.index[place], "y"] = label
    return found.astype({"y": float}) if task == "regression" else found


@pytest.mark.parametrize(
    ("task", "place", "label", "error", "says"),
    [
        ("multiclass", slice(0, None), "low", DataFault,
         "must have more than one class. Got only 'low' on 2,200 rows"),
        ("multiclass", slice(30, 33), "huge", DataFault,
         "must be one of low, middle, high .* 3 rows are not: 'huge' on 3 rows"),
        ("regression", slice(30, 33), np.inf, DataFault, "must be a finite number. 3 rows are not"),
        ("regression", slice(0, None), np.nan, DataFault, "None of its 2,200 rows has"),
        ("regression", slice(800, None), np.nan, DataFault,
         "must have labels after the start, 2026-03-05 00:00, .* None of the 1,399 rows since"),
        ("regression", slice(0, 700), np.nan, NotAccepted,
         "must be 200 final rows .* its age is label.delay, 6.0 h. Got 51 at 2026-03-05 00:00"),
        ("regression", slice(0, None), 5.0, NotAccepted, "mae .* the mean baseline"),
    ],
    ids=["one class", "no class", "infinite", "unlabelled", "unlabelled later", "late", "constant"],
)  # fmt: skip
def test_labels_that_cannot_be_played_are_named_and_nothing_is_written(
    here: Path, task: str, place: slice, label: Any, error: type[HeliotropeError], says: str
) -> None:
    (here / "model.yaml").write_text(SPECS[task])
    odd(task, place, label).to_parquet(here / "rows.parquet")
    with pytest.raises(error, match=says):
        run("rows.parquet", "--only", "--out", "told.html")
    assert not (here / "told.html").exists()
    assert {path.name for path in here.iterdir()} <= {"home", "model.yaml", "rows.parquet"}


def test_rows_without_a_label_or_beyond_its_bounds_are_answered_counted_and_not_judged(
    here: Path,
) -> None:
    text = SPECS["regression"].replace("{name: y, delay: 6h}", "{name: y, delay: 6h, max: 500}")
    (here / "model.yaml").write_text(text)
    found = odd("regression", slice(900, 910), np.nan)
    found.loc[910:912, "y"] = 501.0
    found.iloc[:1401].to_parquet(here / "rows.parquet")
    words = ("--start", f"{START + timedelta(days=4):%Y-%m-%d}", "--only", "--tick", "1d")
    report = json.loads(run("rows.parquet", *words, "--json"))
    assert report["rows"] == 600
    assert report["unlabelled"] == 13
    assert [p["rows"] for p in report["policies"][1]["points"][:2]] == [199 - 13, 200]
    told = " ".join(run("rows.parquet", *words).split())
    assert "13 of the rows never got a label that counts" in told
    assert "mae lies more than 2 above the accepted level" in told
