"""Bad data, a registry that is away, a full disk: the run says it, and nothing is half done."""

import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heliotrope import vocabulary as names
from heliotrope.bootstrap import report_training, training_step
from heliotrope.domain.run_events import EventKind
from heliotrope.errors import DataFault, HeliotropeError, UnavailableError
from heliotrope.spec import load_spec
from heliotrope.spec.loading import dump_spec
from heliotrope.vocabulary import Outcome

Frame = pd.DataFrame


def change(column: str, value: Any, rows: slice = slice(None)) -> Callable[[Frame], Frame]:
    """A fault: a column is set to a value on some rows."""

    def apply(frame: Frame) -> Frame:
        spoilt = frame.copy()
        spoilt[column] = spoilt[column].astype(object)
        spoilt.loc[spoilt.index[rows], column] = value
        return spoilt

    return apply


def repeated(frame: Frame) -> Frame:
    return pd.concat([frame, frame.iloc[:5]])


def renamed(frame: Frame) -> Frame:
    return frame.rename(columns={"income": "Income_"})


def rescaled(frame: Frame) -> Frame:
    return frame.assign(income=frame.income * 1000)


def leaking(frame: Frame) -> Frame:
    return frame.assign(owner=frame.y == 1)


def immature(frame: Frame) -> Frame:
    yesterday = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=1)
    return frame.assign(at=yesterday)


@pytest.mark.parametrize(
    ("fault", "says", "step"),
    [
        (repeated, ("id", "5", "must be unique"), "validate_data"),
        (change("y", 0), ("label y", "No row is '1'"), "validate_data"),
        (change("income", None), ("income", "All 1,200 rows are missing"), "validate_data"),
        (change("income", np.inf, slice(3)), ("income", "3 of 1,200"), "validate_data"),
        (leaking, ("owner", "label"), "validate_data"),
        (rescaled, ("income", "about x1,000"), "validate_data"),
        (renamed, ("feature income must be a column", "renamed to Income_?"), "snapshot_data"),
        (immature, ("All 1,200 rows are younger",), "snapshot_data"),
        (change("age", "old", slice(7, 9)), ("feature age", "'old' at line 9"), "snapshot_data"),
    ],
)
def test_a_data_fault_ends_the_run_before_training_and_names_the_column(
    workshop: Any, fault: Callable[[Frame], Frame], says: tuple[str, ...], step: str
) -> None:
    frame = workshop.loans(1200)
    spec_file = workshop.write(frame)
    # What the store knows already is what a rescaled column is noticed by.
    with training_step("snapshot_data", dump_spec(load_spec(spec_file)), "before") as run:
        run.take_snapshot("a test", workshop.folder / "before.json")
    workshop.write(fault(workshop.loans(1200, seed=1)))
    outcome = workshop.train()

    assert outcome.outcome is Outcome.DATA_FAULT, outcome
    assert outcome.step == step
    for words in says:
        assert words in outcome.reason
    tags = workshop.tags(outcome)
    assert tags["status"] == "FAILED"
    assert tags["heliotrope.outcome"] == "data_fault"
    assert says[0] in tags["heliotrope.outcome_reason"]
    events = workshop.here.run_log(outcome.run_key).events()
    assert "train_model" not in {e.step for e in events}
    assert workshop.versions() == {}
    (failed,) = [e for e in events if e.kind is EventKind.FAILED]
    assert failed.error == DataFault.__name__
    if step == "validate_data":
        page = workshop.here.registry.read_text(outcome.mlflow_run_id, "data/quality.html")
        assert says[0].split()[-1] in page


def test_mended_data_is_not_measured_by_the_faulty_data_before_it(workshop: Any) -> None:
    def judged(frame: Frame, run_key: str) -> str:
        spec = dump_spec(load_spec(workshop.write(frame)))
        out = workshop.folder / run_key
        with training_step("snapshot_data", spec, run_key) as run:
            run.take_snapshot("a test", out)
        with training_step("validate_data", spec, run_key) as run:
            pages = [workshop.folder / f"{run_key}.{kind}" for kind in ("json", "html", "md")]
            return str(run.validate_data(out, *pages))

    assert judged(workshop.loans(1200), "first") == "usable"
    assert judged(rescaled(workshop.loans(1200, seed=1)), "spoilt") == "faulty"
    assert judged(workshop.loans(1200, seed=2), "mended") == "usable"


def test_a_source_that_is_not_there_or_has_another_delimiter_is_said(workshop: Any) -> None:
    workshop.write(None)
    gone = workshop.train()
    assert gone.outcome is Outcome.FAILED
    assert "loans.csv" in gone.reason
    workshop.loans(300).to_csv(workshop.folder / "loans.csv", index=False, sep=";")
    other = workshop.train()
    assert other.outcome is Outcome.DATA_FAULT
    assert "delimiter" in other.reason
    assert "';'" in other.reason


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (None, ("trainer.build must name a module", "'own_trainer'")),
        ("def build(spec):\n    raise KeyError('depth')\n", ("raised KeyError", "depth")),
        ("def build(spec):\n    return 7\n", ("must return an unfitted", "Got int")),
        ("import does_not_exist\n", ("needs 'does_not_exist'",)),
        ("build = 3\n", ("must name a function", "a int")),
    ],
)
def test_a_trainer_of_ones_own_that_is_wrong_is_said_in_words(
    workshop: Any, monkeypatch: pytest.MonkeyPatch, module: str | None, says: tuple[str, ...]
) -> None:
    import sys

    monkeypatch.syspath_prepend(str(workshop.folder))
    monkeypatch.delitem(sys.modules, "own_trainer", raising=False)
    if module is not None:
        (workshop.folder / "own_trainer.py").write_text(module)
    text = workshop.write(workshop.loans(600)).read_text()
    head, _, tail = text.partition("trainer:")
    own = "trainer: {build: 'own_trainer:build'}\n"
    workshop.write(None, text=head + own + tail.partition("\n")[2])
    outcome = workshop.train()
    assert outcome.outcome is Outcome.FAILED
    assert outcome.step == "train_model"
    for words in says:
        assert words in outcome.reason
    assert workshop.tags(outcome)["heliotrope.outcome_reason"] == outcome.reason
    assert workshop.versions() == {}


def test_mlflow_that_goes_away_in_the_middle_is_named_and_leaves_nothing_half_done(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heliotrope.adapters.mlflow_server import MlflowServer

    spec = dump_spec(load_spec(workshop.write(workshop.loans(1200))))
    files = workshop.home / "mlartifacts"
    options = ["--artifacts-destination", str(files)]
    database = f"sqlite:///{workshop.home / 'mlflow.db'}"
    art = workshop.folder / "art"
    art.mkdir()
    monkeypatch.setenv(names.ENV_PATIENCE, "1")
    with MlflowServer(database, options=options) as server:
        port = int(server.url.rpartition(":")[2])
        monkeypatch.setenv(names.ENV_TRACKING, server.url)
        with training_step("snapshot_data", spec, "broken") as run:
            run.take_snapshot("a test", art / "snapshot")
        with training_step("validate_data", spec, "broken") as run:
            run.validate_data(art / "snapshot", art / "q", art / "q.html", art / "q.md")
    with (
        pytest.raises(UnavailableError, match=server.url),
        training_step("train_model", spec, "broken") as run,
    ):
        run.train_model(art / "snapshot", art / "model")
    report_training(spec, "broken", "FAILED", "train-model failed", art / "outcome.md")

    outcome = workshop.here.run_log("broken").outcome()
    assert (outcome.outcome, outcome.step) == (Outcome.FAILED, "train_model")
    assert server.url in outcome.reason
    assert server.url in (art / "outcome.md").read_text()
    with MlflowServer(database, port=port, options=options):
        assert workshop.versions() == {}
        again = workshop.train()
        assert (again.outcome, again.alias) == (Outcome.REGISTERED, "champion")
        assert workshop.versions() == {"1": ("champion",)}


@pytest.fixture
def small_disk(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 24 MiB that holds the home."""
    disk = workshop.folder / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    try:
        (disk / "mlflow.db").write_bytes((workshop.home / "mlflow.db").read_bytes())
        (workshop.home / "mlflow.db").unlink()
        workshop.home.rmdir()
        workshop.home.symlink_to(disk)
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Take all but `leave` bytes of a disk."""
    ballast = disk / "ballast"
    space = os.statvfs(disk)
    with ballast.open("wb") as file:
        file.write(bytes(max(0, space.f_bavail * space.f_frsize - leave)))
    return ballast


@pytest.mark.parametrize(
    ("step", "leave"),
    [("snapshot_data", 4096), ("train_model", 4096), ("register_model", 160 * 1024)],
)
def test_a_disk_that_is_full_at_a_step_is_said_and_leaves_nothing_half_done(
    workshop: Any, small_disk: Path, monkeypatch: pytest.MonkeyPatch, step: str, leave: int
) -> None:
    ballast: list[Path] = []

    class Filling:
        """Fills the disk when the step begins."""

        def __init__(self, real: Callable[..., Any]) -> None:
            self.real = real

        def __call__(self, run: Any, *words: Any) -> Any:
            ballast.append(fill(small_disk, leave))
            return self.real(run, *words)

    from heliotrope.service.training_run import TrainingRun

    method = {"snapshot_data": "take_snapshot"}.get(step, step)
    workshop.write(workshop.loans(20_000))
    workshop.artifacts = small_disk / "artifacts"
    with monkeypatch.context() as patched:
        filling = Filling(getattr(TrainingRun, method))
        patched.setattr(TrainingRun, method, lambda run, *words: filling(run, *words))
        outcome = workshop.train()
    assert outcome.outcome is Outcome.FAILED, outcome
    assert outcome.step == step
    reason = outcome.reason.lower()
    assert "no space left" in reason or "disk is full" in reason, outcome.reason

    ballast[0].unlink()
    assert workshop.versions() == {}
    if step == "snapshot_data":
        assert workshop.here.snapshots.latest("toy") is None
    again = workshop.train()
    assert (again.outcome, again.alias) == (Outcome.REGISTERED, "champion"), again
    assert list(workshop.versions().values()) == [("champion",)]


def test_a_full_disk_says_so_on_the_command_line_too(workshop: Any, small_disk: Path) -> None:
    workshop.write(workshop.loans(20_000))
    fill(small_disk, 600 * 1024)
    ran = workshop.run("train", "model.yaml", "--json")
    assert ran.code == HeliotropeError.exit_code, ran.out + ran.err
    words = (ran.out + ran.err).lower()
    assert "no space left" in words or "is full" in words, ran.out + ran.err
    assert "Traceback" not in ran.err
