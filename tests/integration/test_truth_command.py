"""`heliotrope truth`: a table a person can read, and everything as JSON."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import typer
from deltalake import write_deltalake

from heliotrope.adapters.truth_state import TruthState
from heliotrope.cli import run_cli, truth
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.errors import UsageError
from heliotrope.spec import load_spec

SPEC = """
name: loans
task: binary
label: {name: y, positive: true, delay: 3d}
event_time: at
source: {path: nowhere.parquet}
features: [{name: grade, type: category, categories: [A, B]}]
metrics: {primary: accuracy, others: [log_loss]}
slices: [{feature: grade}]
"""
STAMP = pa.timestamp("us", "UTC")
LONG_AGO = datetime(2024, 3, 2, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "loans.yaml").write_text(SPEC)
    monkeypatch.setenv("HELIOTROPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HELIOTROPE_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


def write_events(folder: Path) -> None:
    """Two long gone days of 40 predictions, half of them labelled; 30 of 40 were right."""
    number = range(80)
    at = [LONG_AGO + timedelta(days=n // 40, minutes=n) for n in number]
    predictions = pa.table({
        "prediction_id": [f"p{n}" for n in number],
        "version": ["7"] * 80,
        "role": ["champion"] * 80,
        "predicted_at": pa.array(at, STAMP),
        "prediction": ["false"] * 80,
        "score": [0.25] * 80,
        "f_grade": ["A", "B"] * 40,
        "day": pa.array([moment.date() for moment in at]),
    })  # fmt: skip
    labelled = range(0, 80, 2)
    received = [at[n] + timedelta(hours=5) for n in labelled]
    labels = pa.table({
        "label_id": [f"l{n}" for n in labelled],
        "prediction_id": [f"p{n}" for n in labelled],
        "label": ["true" if n % 8 == 0 else "false" for n in labelled],
        "received_at": pa.array(received, STAMP),
        "day": pa.array([moment.date() for moment in received]),
    })  # fmt: skip
    for name, table in (("predictions", predictions), ("labels", labels)):
        path = folder / "home" / "store" / name / "loans"
        write_deltalake(str(path), table, partition_by=["day"])


def run(folder: Path, *arguments: str) -> int:
    app = typer.Typer()
    app.callback()(lambda: None)
    truth.register(app)
    spec = str(folder / "loans.yaml")
    return run_cli(lambda **more: app(["truth", "loans", "--spec", spec, *arguments], **more))


def test_the_table_shows_windows_with_interval_coverage_and_delay(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_events(folder)
    assert run(folder) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "2024-03-0" in line]
    assert len(lines) == 2
    for part in ("7 champion", "20 (50%)", "0.7500 [0.531, 0.888]", "5.0h", "mature"):
        assert part in lines[0], part


def test_slices_are_shown_when_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_events(folder)
    assert run(folder, "--slices", "--since", "2024-03-03") == 0
    out = capsys.readouterr().out
    assert "grade = A" in out
    assert "2024-03-02" not in out


@pytest.mark.parametrize("more", [(), ("--from-scratch",)])
def test_json_holds_everything(
    folder: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    write_events(folder)
    assert run(folder, "--json", *more) == 0
    windows = json.loads(capsys.readouterr().out)
    assert [window["slice"] for window in windows] == [None, "grade = A", "grade = B"] * 2
    assert windows[0]["metrics"]["log_loss"]["value"] == pytest.approx(0.5623, abs=1e-4)
    assert windows[0]["estimate"]["accuracy"]["unreliable"] is False


def test_no_prediction_is_said_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    assert "No prediction of loans is logged in that time." in capsys.readouterr().out


def test_while_a_controller_ticks_its_last_state_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_events(folder)
    assert run(folder) == 0
    monkeypatch.setattr("heliotrope.adapters.truth_state._WAIT_SECONDS", 0.05)
    plan = TruthPlan.of(load_spec(folder / "loans.yaml"))
    with TruthState(folder / "home" / "truth" / "loans.db").transaction(plan):
        assert run(folder) == 0
    shown = capsys.readouterr()
    assert "as of its last" in shown.err
    assert shown.out.count("2024-03-02") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--since", "yesterday"), "--since must be a time such as"),
        (("--engine", "trino"), "--engine must be duckdb or spark. Got 'trino'."),
    ],
)
def test_wrong_options_say_what_they_must_be(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert run(folder, *arguments) == UsageError.exit_code
    assert message in capsys.readouterr().err


def test_the_spec_must_be_the_models(folder: Path) -> None:
    with pytest.raises(UsageError, match="--spec must be cars's"):
        truth.spec_of("cars", folder / "loans.yaml")


def test_since_reads_times_and_durations() -> None:
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert truth.parse_since("2h", now) == datetime(2026, 3, 2, 10, tzinfo=UTC)
    assert truth.parse_since("2026-03-01", now) == datetime(2026, 3, 1, tzinfo=UTC)
    assert truth.parse_since("2026-03-01T02:00+02:00", now) == datetime(2026, 3, 1, tzinfo=UTC)
