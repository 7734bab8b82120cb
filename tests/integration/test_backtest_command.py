"""`heliotrope backtest` on small histories: a change is noticed and answered, bad input refused."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from heliotrope.cli import build_app
from heliotrope.errors import DataFault, HeliotropeError, SpecError, UsageError  # noqa: F401

SPEC = """
name: flip
task: binary
event_time: at
label: {name: y, positive: true, delay: 6h}
source: {path: rows.csv}
features:
  - {name: a, type: float}
  - {name: b, type: float}
  - {name: kind, type: category, categories: [x, z]}
trainer: {parameters: {max_iter: 30, max_leaf_nodes: 8, learning_rate: 0.3}}
split: {holdout: 0.2, calibration: 0.15}
metrics: {primary: accuracy}
validation: {minimum_rows: 1000}
gates: {minimum_rows: 200, minimum_positives: 20, tolerance: 0.05}
rollout:
  shadow: {share: 1.0, minimum_labels: 60, backfill: 2d}
  steps: [50, 100]
  step_minimum: 1h
  bake: 12h
monitoring: {window: 1d, minimum_rows: 50, fall: 0.1}
retraining: {cooldown: 6h, minimum_new_labels: 700, memory_rows: [600]}
"""
START = datetime(2026, 3, 1, tzinfo=UTC)
CHANGE = START + timedelta(days=14)
A_DAY = 250


def rows(days: int = 24, change: datetime | None = CHANGE, seed: int = 3) -> pd.DataFrame:
    """Rows whose label is the sign of `a`, right 95 times in 100; from the change on, of `b`."""
    random = np.random.default_rng(seed)
    count = days * A_DAY
    at = pd.Series(pd.date_range(START, periods=count, freq=pd.Timedelta(days=1) / A_DAY))
    a, b = random.normal(size=count), random.normal(size=count)
    turned = at >= change if change is not None else np.zeros(count, bool)
    right = random.random(count) < 0.95
    label = np.where(turned, b > 0, a > 0) ^ ~right
    kind = random.choice(["x", "z"], count)
    return pd.DataFrame({"at": at, "a": a, "b": b, "kind": kind, "y": label})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the spec in it, of its own home."""
    (tmp_path / "model.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HELIOTROPE_HOME", str(tmp_path / "home"))
    return tmp_path


def run(*words: str) -> Any:
    done = CliRunner().invoke(build_app(), ["backtest", "model.yaml", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def compared(*words: str) -> dict[str, Any]:
    report = json.loads(run("--json", *words).stdout)
    report["by_name"] = {policy["name"]: policy for policy in report["policies"]}
    return report


@pytest.mark.timeout(1200)
def test_an_abrupt_change_is_noticed_and_answered_while_never_stays_wrong(here: Path) -> None:
    rows().to_parquet(here / "rows.parquet")
    report = compared(
        *("--history", "rows.parquet", "--change", f"{CHANGE:%Y-%m-%dT%H:%M:%S}"),
        *("--tick", "6h", "--out", "told.html"),
    )
    ours, never, oracle = (
        report["by_name"][name] for name in ("as the spec says", "never", "oracle")
    )
    assert ours["alarms"][-1]["true"]
    assert ours["promotions"] >= 1
    (called,) = ours["detections"]
    assert called["labels"] <= 2 * A_DAY
    assert called["recovered"] is not None
    assert never["detections"][0]["recovered"] is None
    assert never["promotions"] == never["retrainings"] == 0
    # In the new world the old model guesses.
    assert never["value_after"] < 0.6
    assert never["value_after"] + 0.15 < ours["value_after"] < oracle["value_after"] + 0.02
    page = (here / "told.html").read_text()
    assert "<svg" in page
    assert "as the spec says" in page
    assert sorted(path.name for path in here.iterdir()) == [
        "model.yaml", "rows.parquet", "told.html",
    ]  # fmt: skip
