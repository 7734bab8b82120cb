"""`heliotrope train` as a person runs it: the command, the compiled pipeline, a process a step."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliotrope.domain.run_events import EventKind, RunOutcome
from heliotrope.vocabulary import Outcome

PATIENT_SECONDS = 240.0
TRAINER = """
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from my_settings import STRENGTH


def build(spec):
    return Pipeline(
        [
            ("fill", SimpleImputer(strategy="median")),
            ("scale", StandardScaler()),
            ("model", LogisticRegression(C=STRENGTH)),
        ]
    )
"""
BREAKING = """
from sklearn.linear_model import LogisticRegression


class Breaking(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        raise ZeroDivisionError("the seventh pillar is missing")


def build(spec):
    return Breaking()
"""


def wait_for(child: "subprocess.Popen[str]", shown: Callable[[], bool]) -> None:
    """Until something shows, while a command runs."""
    for _ in range(int(PATIENT_SECONDS / 0.05)):
        if shown():
            return
        try:
            child.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        out, err = child.communicate()
        raise AssertionError(f"the command ended first, with {child.returncode}: {out}\n{err}")
    raise AssertionError(f"nothing showed within {PATIENT_SECONDS:g} s")


def started(workshop: Any, step: str) -> bool:
    """Whether a step of the newest run has begun."""
    folders = workshop.run_folders()
    return bool(folders) and any(
        e.step == step and e.kind is EventKind.STARTED for e in workshop.events(folders[-1])
    )


def parent_of(pid: int) -> int:
    """Which process started one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(folder: Path) -> list[str]:
    """Command lines of the processes that work in a folder, this one aside."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                if (process / "cwd").readlink() == folder:
                    words = (process / "cmdline").read_bytes().split(b"\0")
                    found.append(b" ".join(words).decode(errors="replace")[:300])
            except OSError:
                continue  # it ended, or belongs to somebody else
    return found


def processes_of(folder: Path, words: str) -> list[int]:
    """Numbers of the processes in a folder whose command line holds some words."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").readlink() == folder:
                line = (process / "cmdline").read_bytes().decode(errors="replace")
                if words in line.replace("\0", " ") and int(process.name) != os.getpid():
                    found.append(int(process.name))
        except OSError:
            continue
    return found


def pending(workshop: Any) -> list[Any]:
    """MLflow's logged models that are not READY."""
    from mlflow.tracking import MlflowClient

    uri = workshop.here.settings.tracking_uri
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("toy")
    if experiment is None:
        return []
    models = client.search_logged_models(experiment_ids=[experiment.experiment_id])
    return [m for m in models if m.status != "READY"]


def test_a_trainer_of_ones_own_goes_through_the_command_and_the_compiled_pipeline(
    workshop: Any,
) -> None:
    (workshop.folder / "my_trainer.py").write_text(TRAINER)
    (workshop.folder / "my_settings.py").write_text("STRENGTH = 0.5\n")
    frame = workshop.loans(1500)
    frame.loc[::30, "income"] = None
    text = workshop.write(frame).read_text()
    workshop.write(
        None, text=text.replace("{parameters: {max_iter: 20, n_iter_no_change: 5, "
        "max_leaf_nodes: 4}}", "{build: 'my_trainer:build'}"),
    )  # fmt: skip
    scratch = workshop.folder / "scratch"
    scratch.mkdir()
    ran = workshop.run("train", "model.yaml", "--json", TMPDIR=str(scratch))

    assert ran.code == 0, ran.out + ran.err
    outcome = RunOutcome.from_json(ran.out)
    assert outcome.outcome is Outcome.REGISTERED, outcome.reason
    assert (outcome.version, outcome.alias) == ("1", "champion")
    assert workshop.tags(outcome)["status"] == "FINISHED"
    (folder,) = workshop.run_folders()
    finished = [e.step for e in workshop.events(folder) if e.kind is EventKind.FINISHED]
    assert finished == [
        "snapshot_data", "validate_data", "train_model", "evaluate_model", "register_model",
        "deploy_candidate", "await_rollout", "report_outcome",
    ]  # fmt: skip
    assert {p.name for p in folder.iterdir()} == {
        "arguments.json", "artifacts", "evaluation.html", "evaluation.json", "events.jsonl",
        "gate.json", "log.txt", "outcome.json", "quality.html",
    }  # fmt: skip
    assert not list(scratch.iterdir())
    assert not alive(workshop.folder)
    lineage = json.loads(workshop.cli("explain", "toy", "--json").out)["lineage"]
    assert "LogisticRegression" in lineage["estimator"]
    again = workshop.cli("reproduce", "toy", "1", "--path", str(workshop.folder))
    assert again.code == 0, again.out + again.err


def test_init_writes_a_spec_that_trains_at_once_with_a_line_a_step(workshop: Any) -> None:
    workshop.loans(1500).to_csv(workshop.folder / "loans.csv", index=False)
    words = ("init", "toy", "--from", "loans.csv", "--label", "y")
    made = workshop.cli(*words)
    assert made.code == 0, made.err
    spec_file = workshop.folder / "toy" / "model.yaml"
    first = spec_file.read_text()
    assert workshop.cli("spec", "check", str(spec_file)).code == 0
    schema = json.loads(workshop.cli("spec", "schema").out)
    assert {"name", "features", "metrics"} <= set(schema["properties"])
    spec_file.write_text(first + "# mine\n")
    refused = workshop.cli(*words)
    assert refused.code == 2
    assert "--force" in refused.err
    assert spec_file.read_text().endswith("# mine\n")
    assert workshop.cli(*words, "--force").code == 0
    assert spec_file.read_text() == first

    ran = workshop.run("train", str(spec_file))
    assert ran.code == 0, ran.out + ran.err
    assert "toy REGISTERED as version 1, champion" in ran.out
    assert "Gate: PASS" in ran.out
    assert "\x1b" not in ran.out
    assert "snapshot_data" not in ran.out
    steps = [line.split()[:2] for line in ran.err.splitlines()]
    assert ["snapshot_data", "ok"] in steps
    assert ["register_model", "ok"] in steps
    for page in ("quality.html", "evaluation.html"):
        (place,) = [line.split()[0] for line in ran.out.splitlines() if page in line]
        assert "<html" in Path(place).read_text()
    assert workshop.versions() == {"1": ("champion",)}


def test_a_candidate_that_is_refused_ends_well_unless_a_pass_is_required(workshop: Any) -> None:
    workshop.write(workshop.loans(1500))
    assert workshop.train().alias == "champion"
    ran = workshop.run("train", "model.yaml", "--require-pass")
    assert ran.code == 5, ran.out + ran.err
    assert "toy NOT ACCEPTED" in ran.out
    assert "not better: difference +0.0000" in ran.out
    assert workshop.versions() == {"1": ("champion",)}
    assert json.loads(workshop.cli("models", "--json").out)["toy"][0]["version"] == "1"


def test_a_step_that_breaks_says_its_own_error(workshop: Any) -> None:
    (workshop.folder / "breaking.py").write_text(BREAKING)
    text = workshop.write(workshop.loans(1500)).read_text()
    head, _, tail = text.partition("trainer:")
    tail = tail.partition("\n")[2]
    workshop.write(None, text=f"{head}trainer: {{build: 'breaking:build'}}\n{tail}")
    ran = workshop.run("train", "model.yaml")
    assert ran.code == 1, ran.out + ran.err
    assert "toy FAILED" in ran.out
    assert "the seventh pillar is missing" in ran.out
    (folder,) = workshop.run_folders()
    outcome = workshop.here.run_log(folder.name).outcome()
    assert (outcome.outcome, outcome.step) == (Outcome.FAILED, "train_model")
    tags = workshop.tags(outcome)
    assert tags["status"] == "FAILED"
    assert "the seventh pillar is missing" in tags["heliotrope.outcome_reason"]


def test_faulty_data_ends_the_command_with_its_own_exit_code(workshop: Any) -> None:
    workshop.write(workshop.loans(1500).rename(columns={"income": "earnings"}))
    ran = workshop.run("train", "model.yaml", "--json")
    assert ran.code == 4, ran.out + ran.err
    outcome = RunOutcome.from_json(ran.out)
    assert outcome.outcome is Outcome.DATA_FAULT
    assert "feature income must be a column" in outcome.reason


@pytest.mark.parametrize(
    ("step", "sign"),
    [
        ("snapshot_data", signal.SIGINT),
        ("validate_data", signal.SIGTERM),
        ("train_model", signal.SIGINT),
        ("evaluate_model", signal.SIGTERM),
        ("register_model", signal.SIGINT),
    ],
)
def test_a_signal_in_any_step_leaves_nothing_half_done(
    workshop: Any, step: str, sign: signal.Signals
) -> None:
    workshop.write(workshop.loans(1500))
    child = workshop.start("train", "model.yaml")
    wait_for(child, lambda: started(workshop, step))
    child.send_signal(sign)
    ran = workshop.end(child)

    assert ran.code == 130, ran.out + ran.err
    assert "Interrupted; nothing is half-written." in ran.err
    assert "Traceback" not in ran.err
    assert not alive(workshop.folder)
    (folder,) = workshop.run_folders()
    outcome = workshop.here.run_log(folder.name).outcome()
    assert outcome.outcome is Outcome.INTERRUPTED
    assert outcome.step == step
    if outcome.mlflow_run_id is None:
        assert step == "snapshot_data", "only the first step may not have opened its run yet"
    else:
        tags = workshop.tags(outcome)
        assert (tags["status"], tags["heliotrope.outcome"]) == ("KILLED", "interrupted")
    assert not (folder / "tmp").exists()
    assert workshop.versions() == {}
    assert not pending(workshop)
    again = workshop.train()
    assert (again.outcome, again.alias) == (Outcome.REGISTERED, "champion")
    assert list(workshop.versions().values()) == [("champion",)]


def test_a_step_that_is_killed_ends_the_run_as_failed(workshop: Any) -> None:
    workshop.write(workshop.loans(1500))
    child = workshop.start("train", "model.yaml", "--json")
    wait_for(child, lambda: started(workshop, "validate_data"))
    # Steps are forks of the warm process: the one that is nobody's parent is the step.
    warm = processes_of(workshop.folder, "warm_steps")
    (step,) = [pid for pid in warm if parent_of(pid) in warm]
    os.kill(step, signal.SIGKILL)
    ran = workshop.end(child)
    assert ran.code == 1, ran.out + ran.err
    outcome = RunOutcome.from_json(ran.out)
    assert outcome.outcome is Outcome.FAILED
    assert outcome.reason.startswith("step validate_data died without a word")
    assert workshop.tags(outcome)["status"] == "FAILED"


def test_a_run_that_is_killed_whole_is_cleaned_up_by_the_next(workshop: Any) -> None:
    workshop.write(workshop.loans(1500))
    child = workshop.start("train", "model.yaml")
    wait_for(child, lambda: started(workshop, "register_model"))
    wait_for(child, lambda: bool(pending(workshop)))
    os.killpg(child.pid, signal.SIGKILL)
    for pid in processes_of(workshop.folder, ""):
        os.kill(pid, signal.SIGKILL)
    workshop.end(child)
    assert workshop.versions() == {}
    outcome = workshop.train()
    assert (outcome.outcome, outcome.alias) == (Outcome.REGISTERED, "champion")
    assert not pending(workshop)
    assert list(workshop.versions().values()) == [("champion",)]


def test_two_first_trainings_at_once_end_well_with_one_champion(workshop: Any) -> None:
    shutil.rmtree(workshop.home)
    workshop.write(workshop.loans(1500))
    both = [workshop.start("train", "model.yaml", "--json") for _ in range(2)]
    ran = [workshop.end(child, 2 * PATIENT_SECONDS) for child in both]
    assert [r.code for r in ran] == [0, 0], [r.out + r.err for r in ran]
    outcomes = [RunOutcome.from_json(r.out) for r in ran]
    registered = [o for o in outcomes if o.outcome is Outcome.REGISTERED]
    assert registered
    assert {o.outcome for o in outcomes} <= {Outcome.REGISTERED, Outcome.NOT_ACCEPTED}
    versions = workshop.versions()
    assert sorted(versions) == sorted(o.version for o in registered)
    assert sum("champion" in aliases for aliases in versions.values()) == 1
    assert not pending(workshop)
