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
from heliotrope.errors import DataFault, HeliotropeError, SpecError, UsageError

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


def changed(rows: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    return rows.assign(**columns)


@pytest.mark.parametrize(
    ("made", "error", "says"),
    [
        (lambda r: r.drop(columns="b"), DataFault, "feature b must be a column of history"),
        (lambda r: r.drop(columns="y"), DataFault, "label y must be a column of history"),
        (lambda r: r.drop(columns="at"), DataFault, "event time at must be a column of history"),
        (lambda r: r.assign(y=None), DataFault, "must have labels. None of its"),
        (lambda r: r.iloc[::-1], DataFault, "must be in the order of at, oldest first. Row 2 is"),
        (lambda r: r.iloc[:0], DataFault, "."),
        (lambda r: r.assign(at=None), DataFault, "event time at of .* must be given on every row"),
        (lambda r: r.assign(a="much"), DataFault, "column a of .* must be a number on every row"),
        (lambda r: r.assign(kind="other"), DataFault, "must have rows that a predictor takes"),
        (lambda r: r.iloc[: A_DAY + 10], UsageError, "must (lie within|go on for two)"),
    ],
    ids=[
        "feature", "label", "time", "unlabelled", "backwards", "empty", "timeless", "unreadable",
        "refused", "short",
    ],
)  # fmt: skip
def test_a_history_that_cannot_be_played_is_refused_by_what_is_wrong(
    here: Path, made: Any, error: type[HeliotropeError], says: str
) -> None:
    made(rows(days=4)).to_csv(here / "rows.csv", index=False)
    with pytest.raises(error, match=says):
        run("--history", "rows.csv")


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (["--history", "rows.txt"], UsageError, "--history must be `log`, or a path that ends in"),
        (["--history", "gone.csv"], HeliotropeError, "gone.csv"),
        (["--set", "monitoring.kk=1"], SpecError, "monitoring.kk must be one of"),
        (
            ["--set", "gates.confidence=2"],
            SpecError,
            "gates.confidence must be less than 1.0. Got 2",
        ),
        (["--tick", "2d"], UsageError, "--tick must be at most a monitoring window"),
        (["--tick", "soon"], UsageError, "--tick must"),
        (["--start", "2020-01-01"], UsageError, "--start must lie within the history"),
        (["--change", "2020-01-01"], UsageError, "--change must lie within the simulation"),
        (["--out", "told.pdf"], UsageError, "--out must end in .md or .html. Got told.pdf"),
        (
            ["--out", "gone/told.md"],
            UsageError,
            "--out must be a file in a folder that is there. Got gone/told.md",
        ),
        (["--history", "log"], DataFault, "the log of flip must hold predictions. It holds none"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_before_anything_is_played(
    here: Path, words: list[str], error: type[HeliotropeError], says: str
) -> None:
    rows(days=12).to_csv(here / "rows.csv", index=False)
    given = words if "--history" in words else ["--history", "rows.csv", *words]
    with pytest.raises(error, match=says):
        run(*given)
    assert sorted(path.name for path in here.iterdir()) in (
        ["model.yaml", "rows.csv"],
        ["home", "model.yaml", "rows.csv"],
    )
