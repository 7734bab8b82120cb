"""A training run from source to registry, its steps in this process: what is registered, and why.

The command and the compiled pipeline are in test_train_command.py.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heliotrope.domain.gate import GateReport
from heliotrope.domain.lineage import Lineage
from heliotrope.domain.parity import ParityReport
from heliotrope.vocabulary import Outcome, Verdict


def test_the_first_model_is_registered_whole_and_becomes_champion(workshop: Any) -> None:
    frame = workshop.loans()
    workshop.write(frame)
    outcome = workshop.train(cause="a test")

    assert outcome.outcome is Outcome.REGISTERED, outcome.reason
    assert (outcome.version, outcome.alias, outcome.verdict) == ("1", "champion", Verdict.PASS)
    assert workshop.versions() == {"1": ("champion",)}
    tags = workshop.tags(outcome)
    assert tags["status"] == "FINISHED"
    assert tags["heliotrope.outcome"] == "registered"
    assert tags["heliotrope.cause"] == "a test"
    registry = workshop.here.registry
    run_id = outcome.mlflow_run_id
    for path in (
        "lineage.json", "spec.yaml", "gate.json", "gate.md", "parity.json", "outcome.json",
        "environment.json", "data/quality.json", "data/quality.html", "data/quality.md",
        "evaluation/evaluation.json", "evaluation/evaluation.html", "evaluation/evaluation.md",
        "model/training.json",
    ):  # fmt: skip
        assert registry.read_text(run_id, path), path
    pictures = {Path(p).stem for p in registry.list_files(run_id, "evaluation/plots")}
    assert pictures >= {"roc", "precision_recall", "calibration", "confusion", "importances"}
    lineage = Lineage.from_json(registry.read_text(run_id, "lineage.json"))
    assert lineage.snapshot.rows == len(frame)
    assert lineage.champion is None
    assert GateReport.from_json(registry.read_text(run_id, "gate.json")).verdict is Verdict.PASS
    assert ParityReport.from_json(registry.read_text(run_id, "parity.json")).max_difference < 1e-5
    version = registry.version("toy", "1")
    assert version.tags["heliotrope.gate_verdict"] == "PASS"
    assert version.tags["heliotrope.snapshot_hash"] == lineage.snapshot.content_hash
    assert version.metrics["roc_auc"] > 0.65
    folder = registry.download(version, workshop.folder / "copy")
    assert {p.name for p in folder.iterdir()} >= {
        "model.onnx", "model.skops", "serving.json", "MLmodel", "lineage.json", "gate.json",
        "spec.yaml", "training.json", "evaluation.json", "quality.json",
    }  # fmt: skip
    about = (folder / "MLmodel").read_text()
    assert "signature:" in about
    assert "saved_input_example_info:" in about


def test_the_commands_show_explain_score_and_reproduce_what_was_registered(workshop: Any) -> None:
    frame = workshop.loans()
    workshop.write(frame)
    assert workshop.train().outcome is Outcome.REGISTERED

    listed = json.loads(workshop.cli("models", "--json").out)
    assert [v["aliases"] for v in listed["toy"]] == [["champion"]]
    table = workshop.cli("models")
    assert table.code == 0
    assert "champion" in table.out
    assert "roc_auc" in table.out

    told = workshop.cli("explain", "toy")
    assert told.code == 0
    for words in ("toy version 1", "the first version of this model", "HistGradientBoosting"):
        assert words in told.out
    everything = json.loads(workshop.cli("explain", "toy", "1", "--json").out)
    assert everything["missing"] == []
    assert everything["gate"]["verdict"] == "PASS"

    scored = workshop.cli("predict", "toy", "loans.csv", "--json")
    assert scored.code == 0, scored.err
    answers = [json.loads(line) for line in scored.out.splitlines()]
    assert len(answers) == len(frame)
    scores = pd.Series([a["score"] for a in answers])
    assert scores.between(0, 1).all()
    assert scores[frame.y == 1].mean() > scores[frame.y == 0].mean() + 0.1

    again = workshop.cli("reproduce", "toy", "1")
    assert again.code == 0, again.out
    assert "the same model, bit for bit" in again.out


MULTICLASS = """
name: toy
task: multiclass
event_time: at
label: {name: size, classes: [small, middle, large]}
source: {path: loans.csv}
features:
  - {name: income, type: float, nullable: true}
  - {name: age, type: integer}
  - {name: zip, type: category, categories: ["01234", "0999", "07"]}
trainer: {parameters: {max_iter: 15, max_leaf_nodes: 4}}
metrics: {primary: log_loss, others: [accuracy]}
"""
REGRESSION = """
name: toy
task: regression
event_time: at
label: {name: loss, min: -1000000}
source: {path: loans.csv}
features:
  - {name: income, type: float, nullable: true}
  - {name: age, type: integer}
  - {name: owner, type: boolean}
trainer: {parameters: {max_iter: 15, max_leaf_nodes: 4}}
metrics: {primary: mae, others: [rmse]}
"""


@pytest.mark.parametrize(("text", "primary"), [(MULTICLASS, "log_loss"), (REGRESSION, "mae")])
def test_other_tasks_train_gate_and_register_with_parity(
    workshop: Any, text: str, primary: str
) -> None:
    frame = workshop.loans(1500)
    random = np.random.default_rng(3)
    size = np.log(frame.income) + random.normal(0, 0.2, len(frame))
    frame["size"] = pd.cut(size, [-np.inf, 9.8, 10.3, np.inf], labels=["small", "middle", "large"])
    frame["loss"] = frame.income * 0.1 + frame.age * 5 + random.normal(0, 100, len(frame))
    frame.loc[::40, "income"] = np.nan
    workshop.write(frame, text=text)
    outcome = workshop.train()
    assert outcome.outcome is Outcome.REGISTERED, outcome.reason
    registry = workshop.here.registry
    parity = ParityReport.from_json(registry.read_text(outcome.mlflow_run_id, "parity.json"))
    assert parity.rows > 0
    assert parity.max_difference < 1e-5 * max(1.0, frame["loss"].abs().max())
    assert primary in registry.version("toy", "1").metrics
    scored = workshop.cli("predict", "toy", "loans.csv")
    assert scored.code == 0, scored.err
    assert len(scored.out.splitlines()) == len(frame) + 1


def refused(workshop: Any, outcome: Any, verdict: Verdict) -> GateReport:
    """The gate's report of a run that registered nothing and still ended well."""
    assert outcome.outcome is Outcome.NOT_ACCEPTED, outcome.reason
    assert outcome.verdict is verdict
    assert outcome.version is None
    tags = workshop.tags(outcome)
    assert tags["status"] == "FINISHED"
    assert tags["heliotrope.outcome"] == "not_accepted"
    assert tags["heliotrope.gate_verdict"] == verdict
    text = workshop.here.registry.read_text(outcome.mlflow_run_id, "gate.json")
    report = GateReport.from_json(text)
    assert report.verdict is verdict
    return report


def test_a_better_candidate_on_newer_data_is_registered_beside_the_champion(workshop: Any) -> None:
    workshop.write(workshop.loans(1200, seed=1, signal=0.4))
    assert workshop.train().alias == "champion"
    newer = workshop.loans(4000, seed=2, since="2024-06-01", signal=1.5)
    workshop.write(newer)
    outcome = workshop.train(cause="newer data")
    assert outcome.outcome is Outcome.REGISTERED, outcome.reason
    assert (outcome.version, outcome.alias) == ("2", "candidate")
    assert workshop.versions() == {"2": ("candidate",), "1": ("champion",)}
    lineage = workshop.here.registry.read_text(outcome.mlflow_run_id, "lineage.json")
    assert Lineage.from_json(lineage).champion == "1"
    explained = workshop.cli("explain", "toy", "2").out
    assert "compared with" in explained
    assert "champion v1" in explained


def test_the_same_data_again_is_no_better_and_says_so(workshop: Any) -> None:
    workshop.write(workshop.loans())
    workshop.train()
    outcome = workshop.train()
    report = refused(workshop, outcome, Verdict.FAIL)
    champion = next(r for r in report.reasons if r.check == "champion")
    assert champion.verdict is Verdict.FAIL
    assert "not better: difference +0.0000" in champion.text
    assert champion.text in outcome.reason
    assert workshop.versions() == {"1": ("champion",)}


def test_a_worse_candidate_fails(workshop: Any) -> None:
    frame = workshop.loans(3000, signal=1.5)
    workshop.write(frame)
    assert workshop.train().alias == "champion"
    # Labels that say nothing in the training rows; the holdout's are as they were.
    spoilt = frame.copy()
    spoilt.loc[: int(len(frame) * 0.78), "y"] = np.random.default_rng(5).permutation(
        spoilt.loc[: int(len(frame) * 0.78), "y"]
    )
    workshop.write(spoilt)
    report = refused(workshop, workshop.train(), Verdict.FAIL)
    assert any(r.check == "champion" and r.verdict is Verdict.FAIL for r in report.reasons)
    assert workshop.versions() == {"1": ("champion",)}


def test_too_few_rows_to_tell_are_held(workshop: Any) -> None:
    workshop.write(workshop.loans(700), more="gates: {minimum_rows: 1000}\n")
    outcome = workshop.train()
    report = refused(workshop, outcome, Verdict.HOLD)
    assert "140 holdout rows of at least 1,000: 860 more are needed" in outcome.reason
    assert report.blocking[0].check == "rows"
    assert workshop.versions() == {}


def files_gone(store: Path) -> None:
    for model in list(store.rglob("model.onnx")):
        shutil.rmtree(model.parent)


def files_corrupt(store: Path) -> None:
    for model in list(store.rglob("model.onnx")):
        model.write_bytes(b"\x00not a graph")


@pytest.mark.parametrize("fault", [files_gone, files_corrupt])
def test_a_broken_champion_is_an_error_and_nothing_is_registered(workshop: Any, fault: Any) -> None:
    workshop.write(workshop.loans(seed=1))
    assert workshop.train().alias == "champion"
    fault(workshop.home / "mlartifacts")
    shutil.rmtree(workshop.home / "served", ignore_errors=True)
    workshop.write(workshop.loans(4000, seed=2, since="2024-06-01"))
    outcome = workshop.train()
    report = refused(workshop, outcome, Verdict.ERROR)
    assert "champion v1" in report.reasons[0].text
    assert list(workshop.versions()) == ["1"]


def test_a_champion_whose_feature_is_gone_from_the_data_is_an_error(workshop: Any) -> None:
    workshop.write(workshop.loans(seed=1))
    assert workshop.train().alias == "champion"
    text = (workshop.folder / "model.yaml").read_text()
    less = "\n".join(line for line in text.splitlines() if "name: age" not in line) + "\n"
    workshop.write(workshop.loans(4000, seed=2, since="2024-06-01").drop(columns="age"), text=less)
    outcome = workshop.train()
    report = refused(workshop, outcome, Verdict.ERROR)
    assert "age" in report.reasons[0].text
    assert workshop.versions() == {"1": ("champion",)}
