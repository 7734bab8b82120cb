"""Registering with lineage, the first alias, explaining and reproducing, on a real registry."""

import io
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from heliotrope.adapters.mlflow_registry import MlflowRegistry
from heliotrope.cli.explain import show
from heliotrope.cli.models import versions_table
from heliotrope.cli.reproduce import show as show_reproduction
from heliotrope.domain.evaluation import Difference, Evaluation, MetricValue
from heliotrope.domain.gate import GateReport, Reason
from heliotrope.domain.lineage import CodeIdentity, Lineage
from heliotrope.domain.quality import Finding, Level, QualityReport
from heliotrope.domain.serving import ServingContract
from heliotrope.domain.snapshot import SnapshotRef
from heliotrope.domain.training import SplitRange, TrainingRecord
from heliotrope.errors import NotFoundError
from heliotrope.ports import FloatVector
from heliotrope.service.lineage import VersionFacts, choose, explain
from heliotrope.service.registration import Candidate, file_hash, give_alias, register_candidate
from heliotrope.service.reproduction import Sameness, reproduce
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.vocabulary import Task, Verdict

SPEC = """
name: loans
task: binary
label: {name: defaulted, positive: 1}
source: {path: loans.csv}
metrics: {primary: roc_auc, others: [log_loss]}
features:
  - {name: income, type: float}
"""
NOW = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database, since migrating takes seconds."""
    home = tmp_path_factory.mktemp("template")
    MlflowRegistry(f"sqlite:///{home}/mlflow.db").models()
    return home / "mlflow.db"


@pytest.fixture
def uri(template: Path, tmp_path: Path) -> str:
    (tmp_path / "home").mkdir()
    shutil.copy(template, tmp_path / "home" / "mlflow.db")
    return f"sqlite:///{tmp_path}/home/mlflow.db"


@pytest.fixture
def registry(uri: str) -> MlflowRegistry:
    return MlflowRegistry(uri)


def write_folder(folder: Path, bits: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph " + bits)
    (folder / "model.skops").write_bytes(b"pipeline " + bits)
    contract = ServingContract(
        model="loans", task=Task.BINARY, features=parse_spec(SPEC).features, classes=("0", "1")
    )
    (folder / "serving.json").write_text(contract.to_json())
    return folder


def code(**changes: object) -> CodeIdentity:
    facts: dict[str, object] = {
        "commit": "c0ffee" * 6 + "abcd",
        "dirty": True,
        "source_hash": "5" * 64,
        "lock_hash": None,
        "python": "3.11.2",
        "packages": {"numpy": "2.0"},
    }
    return CodeIdentity.model_validate(facts | changes)


def candidate(registry: MlflowRegistry, folder: Path, key: str, **changes: Any) -> Candidate:
    ref = SnapshotRef(
        model="loans", table="/store/loans", version=4, content_hash="d" * 64, rows=1240,
        immature_rows=17, taken_at=NOW, event_from=datetime(2023, 1, 1, tzinfo=UTC), event_to=NOW,
        source="loans.csv", columns=("income", "defaulted"),
    )  # fmt: skip
    quality = QualityReport(
        model="loans", rows=1240, usable_rows=1239, columns=(),
        findings=(Finding(check="drift", level=Level.WARNING, message="income [EUR] moved"),),
    )  # fmt: skip
    record = TrainingRecord(
        train=SplitRange(rows=800), calibration=SplitRange(rows=190), holdout=SplitRange(rows=250),
        estimator="sklearn.ensemble.HistGradientBoostingClassifier", parameters={"max_iter": 50},
        seed=11, classes=("0", "1"), importances={"income": 1.0}, seconds=1.5, peak_rss_bytes=2**28,
    )  # fmt: skip
    evaluation = Evaluation(
        primary="roc_auc", rows=250,
        metrics={
            "roc_auc": MetricValue(value=0.71, low=0.69, high=0.74),
            "log_loss": MetricValue(value=float("nan"), low=float("nan"), high=float("nan")),
        },
        baselines={"majority": {"roc_auc": MetricValue(value=0.5, low=0.5, high=0.5)}},
        baseline_differences={"majority": Difference(value=0.21, low=0.19, high=0.23)},
    )  # fmt: skip
    reason = Reason(check="minimum", verdict=Verdict.PASS, text="roc_auc 0.71 >= floor [0.60]")
    made = Candidate(
        spec=parse_spec(SPEC), folder=folder, run_key=key,
        run_id=registry.start_run("loans", key, {}), cause="drift", snapshot=ref, quality=quality,
        record=record, evaluation=evaluation, code=code(), example={"income": 2.0},
        gate=GateReport(verdict=Verdict.PASS, reasons=(reason,)),
        extra_metrics={"onnx_p50_ms": 0.2},
    )  # fmt: skip
    return replace(made, **changes)


def text_of(render: Any, *what: Any) -> str:
    out = io.StringIO()
    render(Console(file=out, width=300), *what)
    return out.getvalue()


def test_a_version_holds_its_whole_lineage(registry, tmp_path):
    folder = write_folder(tmp_path / "model", b"1")
    version = register_candidate(registry, candidate(registry, folder, "run-1"), NOW)
    assert version.metrics == {"roc_auc": 0.71, "onnx_p50_ms": 0.2, "holdout_rows": 250.0}
    lineage = Lineage.from_json(registry.read_text(version.run_id, "lineage.json"))
    assert lineage.model_hash == file_hash(folder / "model.skops")
    assert (lineage.seed, lineage.cause, lineage.trained_at) == (11, "drift", NOW)
    assert parse_spec(lineage.spec) == parse_spec(SPEC)
    short = {key.removeprefix("heliotrope."): value for key, value in version.tags.items()}
    assert short["snapshot_version"] == "4"
    assert short["snapshot_hash"] == "d" * 64
    assert short["code_commit"].endswith(" (dirty)")
    assert (short["seed"], short["gate_verdict"], short["cause"]) == ("11", "PASS", "drift")
    got = registry.download(version, tmp_path / "served")
    for name in ("lineage.json", "gate.json", "spec.yaml", "evaluation.json", "training.json"):
        assert (got / name).is_file(), name
    assert not (folder / "lineage.json").exists()
    description = registry._link.client.get_model_version("loans", "1").description
    assert "**PASS** on 250 holdout rows: roc_auc 0.7100 [0.6900, 0.7400]" in description


def test_the_first_version_is_champion_and_later_ones_move_the_candidate(registry, tmp_path):
    folder = write_folder(tmp_path / "model", b"1")
    made = [register_candidate(registry, candidate(registry, folder, f"r{i}"), NOW) for i in "123"]
    assert [version.aliases for version in made] == [("champion",), ("candidate",), ("candidate",)]
    assert [v.aliases for v in registry.versions("loans")] == [("candidate",), (), ("champion",)]
    note = made[2].tags["heliotrope.alias_note"]
    assert note == "beside champion 1; the alias moved here from candidate 2"


def test_a_champion_that_a_person_removed_is_not_replaced(registry, tmp_path):
    folder = write_folder(tmp_path / "model", b"1")
    register_candidate(registry, candidate(registry, folder, "one"), NOW)
    registry._link.client.delete_registered_model_alias("loans", "champion")
    second = register_candidate(registry, candidate(registry, folder, "two"), NOW)
    assert second.aliases == ("candidate",)
    assert registry.by_alias("loans", "champion") is None


def test_a_first_version_killed_before_its_alias_is_made_champion_by_the_next(registry, tmp_path):
    folder = write_folder(tmp_path / "model", b"1")
    run = registry.start_run("loans", "killed", {})
    registry.register(parse_spec(SPEC), run, folder, {}, {}, {"income": 1.0})
    second = register_candidate(registry, candidate(registry, folder, "next"), NOW)
    assert second.aliases == ("candidate",)
    assert registry.by_alias("loans", "champion").version == "1"


def test_an_older_version_does_not_take_the_alias_of_a_newer_candidate(registry, tmp_path):
    folder = write_folder(tmp_path / "model", b"1")
    for key in ("one", "two", "three"):
        register_candidate(registry, candidate(registry, folder, key), NOW)
    alias, note = give_alias(registry, "loans", "2")
    assert alias == "candidate"
    assert "stays with the newer candidate 3" in note
    assert registry.by_alias("loans", "candidate").version == "3"


RACER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from heliotrope.adapters.mlflow_registry import MlflowRegistry
    from heliotrope.service.registration import give_alias
    from heliotrope.spec import parse_spec

    uri, folder, spec, key = sys.argv[1:]
    registry = MlflowRegistry(uri, patience=30)
    run = registry.start_run("loans", key, {})
    print("ready", flush=True)
    sys.stdin.readline()
    made = registry.register(parse_spec(spec), run, Path(folder), {}, {}, {"income": 2.0})
    print(made.version, give_alias(registry, "loans", made.version)[0])
    """
)


def test_of_two_first_trainings_at_once_exactly_one_is_champion(uri, registry, tmp_path):
    folder = write_folder(tmp_path / "model", b"1")
    pipe = subprocess.PIPE
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, uri, str(folder), SPEC, key],
            stdin=pipe, stdout=pipe, stderr=pipe, text=True,
        )
        for key in ("one", "two")
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = sorted(racer.communicate(timeout=200)[0].strip() for racer in racers)
    assert said == ["1 champion", "2 candidate"]
    assert registry.by_alias("loans", "champion").version == "1"
    assert registry.by_alias("loans", "candidate").version == "2"


def test_an_explanation_shows_everything_and_survives_json(registry, tmp_path):
    folder = write_folder(tmp_path / "model", b"1")
    version = register_candidate(registry, candidate(registry, folder, "run-1"), NOW)
    explanation = explain(registry, "loans", None)
    said = text_of(show, explanation)
    for part in (
        "loans version 1", "champion: the first version", "cause", "drift", "run-1",
        "version 4 of /store/loans", "sha256 " + "d" * 64, "17 with an immature label",
        "income [EUR] moved", "c0ffee", "with uncommitted changes", "numpy 2.0", "max_iter=50",
        "train 800, calibration 190, holdout 250 rows", "0.7100 [0.6900, 0.7400]", "majority",
        "+0.2100 [+0.1900, +0.2300]", "roc_auc 0.71 >= floor [0.60]", "file:///", "lineage.json",
    ):  # fmt: skip
        assert part in said, part
    assert explanation.missing == ()
    read = json.loads(explanation.to_json())
    assert read["lineage"]["model_hash"] == file_hash(folder / "model.skops")
    assert read["evaluation"]["metrics"]["log_loss"]["value"] == "NaN"
    assert read["facts"]["version"] == version.version
    table = text_of(lambda c: c.print(versions_table("loans", [VersionFacts.of(version)])))
    for part in ("loans", "champion", "0.7100", "v4 dddddddd", "c0ffeec0+", "PASS"):
        assert part in table, part


def test_a_version_whose_reports_are_gone_is_explained_as_far_as_it_can_be(registry, tmp_path):
    folder = write_folder(tmp_path / "model", b"1")
    run = registry.start_run("loans", "bare", {})
    registry.register(parse_spec(SPEC), run, folder, {}, {}, {"income": 1.0})
    registry.log_text(run, '{"verdict": "SURE"}', "gate.json")
    explanation = explain(registry, "loans", "1")
    assert explanation.lineage is None
    assert explanation.gate is None
    said = text_of(show, explanation)
    assert "must have the file lineage.json" in said
    assert "gate.json was not written by this release" in said


def test_a_version_is_found_by_number_alias_or_else_champion_or_newest(registry, tmp_path):
    folder = write_folder(tmp_path / "model", b"1")
    for key in ("one", "two"):
        run = registry.start_run("loans", key, {})
        registry.register(parse_spec(SPEC), run, folder, {}, {}, {"income": 1.0})
    assert choose(registry, "loans", None).version == "2"
    registry.set_alias("loans", "champion", "1")
    assert choose(registry, "loans", None).version == "1"
    assert choose(registry, "loans", "2").version == "2"
    assert choose(registry, "loans", "champion").version == "1"
    with pytest.raises(NotFoundError, match=r"alias 'best'. It has: champion; versions 1, 2"):
        choose(registry, "loans", "best")
    with pytest.raises(NotFoundError, match=r"'lones' must be a registered model.*loans"):
        choose(registry, "lones", None)


class Retrained:
    """Writes given bits; scores by what the registered and the new graph say."""

    def __init__(self, bits: bytes, scores: Mapping[bytes, list[float]]) -> None:
        self.bits, self.table = bits, scores
        self.asked: list[tuple[ModelSpec, SnapshotRef]] = []

    def train(
        self, spec: ModelSpec, snapshot: SnapshotRef, folder: Path, changed_at: datetime | None
    ) -> None:
        self.asked.append((spec, snapshot))
        write_folder(folder, self.bits)

    def scores(self, spec: ModelSpec, snapshot: SnapshotRef, folder: Path) -> FloatVector:
        return np.array(self.table[(folder / "model.onnx").read_bytes()])


@pytest.mark.parametrize(
    ("bits", "now", "sameness", "largest"),
    [
        (b"1", [], Sameness.SAME_BITS, None),
        (b"2", [0.25, 0.5], Sameness.SAME_SCORES, 0.0),
        (b"2", [0.25, 0.75], Sameness.DIFFERENT, 0.25),
    ],
)
def test_a_reproduction_says_how_much_came_back_and_what_changed_since(
    registry, tmp_path, bits, now, sameness, largest
):
    folder = write_folder(tmp_path / "model", b"1")
    made = candidate(registry, folder, "run-1")
    version = register_candidate(registry, made, NOW)
    again = Retrained(bits, {b"graph 1": [0.25, 0.5], b"graph 2": now})
    changed = code(packages={"numpy": "2.1"}, commit="0" * 40, dirty=False)
    outcome = reproduce(registry, again, version, changed, tmp_path / "work")
    assert again.asked == [(made.spec, made.snapshot)]
    assert outcome.sameness is sameness
    assert outcome.largest_score_difference == largest
    assert [change.what for change in outcome.changes] == ["numpy", "commit"]
    said = text_of(show_reproduction, outcome)
    assert "loans 1 trained again from snapshot 4 with seed 11" in said
    assert ("=" if sameness is Sameness.SAME_BITS else "≠") in said
    assert "numpy" in said
    same = reproduce(registry, again, version, made.code, tmp_path / "work2")
    assert "Code and environment are as they were." in text_of(show_reproduction, same)
