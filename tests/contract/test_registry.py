"""What every registry must do, on SQLite in this process and on a tracking server over HTTP."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from heliotrope.adapters.mlflow_registry import MlflowRegistry
from heliotrope.adapters.mlflow_server import MlflowServer
from heliotrope.domain.serving import ServingContract
from heliotrope.errors import ConflictError, HeliotropeError, NotFoundError, UsageError
from heliotrope.spec import ModelSpec, parse_spec
from heliotrope.vocabulary import ALIAS_CANDIDATE, ALIAS_CHAMPION, Task

SPEC = """
name: {name}
task: binary
label: {{name: defaulted, positive: 1}}
source: {{path: loans.csv}}
metrics: {{primary: roc_auc}}
features:
  - {{name: income, type: float, min: 0, nullable: true}}
  - {{name: grade, type: category, categories: [A, B, C]}}
"""
EXAMPLE = {"income": 2.0, "grade": "C"}
WEIGHTS = np.array([[0.5], [-1.0]], dtype=np.float32)


def model_spec(name: str) -> ModelSpec:
    return parse_spec(SPEC.format(name=name))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder made by hand: sigmoid(0.5 income - grade's position)."""
    import onnx
    import skops.io
    from onnx import TensorProto, helper
    from sklearn.linear_model import LogisticRegression

    out = tmp_path_factory.mktemp("folder")
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["column"]),
        helper.make_node("Sigmoid", ["column"], ["probability"]),
        helper.make_node("Squeeze", ["probability", "axis"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None])],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [2, 1], WEIGHTS.ravel()),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, out / "model.onnx")
    fitted = LogisticRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])
    skops.io.dump(fitted, out / "model.skops")
    contract = ServingContract(
        model="any",
        task=Task.BINARY,
        features=model_spec("any").features,
        classes=("0", "1"),
        threshold=0.5,
    )
    (out / "serving.json").write_text(contract.to_json())
    return out


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real `mlflow server` with files where a client can reach them, as with S3."""
    home = tmp_path_factory.mktemp("server")
    options = ["--no-serve-artifacts", "--default-artifact-root", (home / "files").as_uri()]
    with MlflowServer(f"sqlite:///{home}/server.db", options=options) as started:
        yield started.url


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('embedded')}/mlflow.db"


@pytest.fixture(params=["embedded", "server"])
def registry(request: pytest.FixtureRequest) -> MlflowRegistry:
    uri = request.getfixturevalue("database" if request.param == "embedded" else "server")
    return MlflowRegistry(uri, patience=10)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A model of the test's own, since the stores are shared."""
    digest = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    return f"model-{digest}"


def registered(registry: MlflowRegistry, name: str, folder: Path, **tags: str):
    run = registry.start_run(name, f"{name}-run", {})
    spec = model_spec(name)
    return registry.register(spec, run, folder, tags, {"roc_auc": 0.7}, EXAMPLE, "# About it")


def test_a_run_started_twice_under_one_key_is_one_run(registry, name):
    first = registry.start_run(name, f"{name}-k", {"heliotrope.cause": "person"})
    assert registry.start_run(name, f"{name}-k", {}) == first
    assert registry.find_run(f"{name}-k") == first
    assert registry.start_run(name, f"{name}-other", {}) != first


def test_a_run_that_nobody_started_is_not_found(registry, name):
    assert registry.find_run(f"{name}-never") is None


def test_a_run_keeps_what_is_logged_and_leaves_out_what_is_not_finite(registry, name):
    run = registry.start_run(name, f"{name}-k", {})
    registry.log(
        run,
        params={"trainer.depth": 3, "long": "x" * 7000},
        metrics={"roc_auc": 0.7, "slice/grade = C": 0.5, "lost": float("nan")},
        tags={"heliotrope.outcome": "registered"},
    )
    registry.log_series(run, "loss", [0.9, 0.5, float("inf"), 0.4])
    registry.finish_run(run, "FINISHED")
    client = registry._link.client
    seen = client.get_run(run)
    assert seen.data.metrics == {"roc_auc": 0.7, "slice/grade _ C": 0.5, "loss": 0.4}
    assert seen.data.params["trainer.depth"] == "3"
    assert len(seen.data.params["long"]) == 6000
    assert seen.data.tags["heliotrope.outcome"] == "registered"
    assert [(m.step, m.value) for m in client.get_metric_history(run, "loss")] == [
        (0, 0.9),
        (1, 0.5),
        (3, 0.4),
    ]
    assert seen.info.status == "FINISHED"
    with pytest.raises(HeliotropeError, match=r"must be one of.*Got 'DONE'"):
        registry.finish_run(run, "DONE")


def test_hundreds_of_params_and_metrics_are_logged_at_once(registry, name):
    run = registry.start_run(name, f"{name}-k", {})
    registry.log(
        run,
        params={f"p{i}": i for i in range(230)},
        metrics={f"m{i}": i / 7 for i in range(1100)},
    )
    seen = registry._link.client.get_run(run)
    assert len(seen.data.params) == 230
    assert len(seen.data.metrics) == 1100


def test_files_and_text_come_back_and_an_absent_one_is_named(registry, name, tmp_path):
    run = registry.start_run(name, f"{name}-k", {})
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "report.md").write_text("# Quality: gut, ясно")
    registry.log_files(run, tmp_path / "reports", "data")
    registry.log_text(run, '{"verdict": "PASS"}', "gate.json")
    assert registry.read_text(run, "data/report.md") == "# Quality: gut, ясно"
    assert registry.read_text(run, "gate.json") == '{"verdict": "PASS"}'
    with pytest.raises(NotFoundError, match=r"data/other\.md.*data/report\.md"):
        registry.read_text(run, "data/other.md")
    assert registry.list_files(run) == ["data", "gate.json"]
    with pytest.raises(NotFoundError, match="must exist"):
        registry.log_files(run, tmp_path / "nowhere", "data")
    assert run in registry.run_url(run)


def test_versions_number_up_and_show_what_they_were_given(registry, name, folder):
    one = registered(registry, name, folder, **{"heliotrope.seed": "7"})
    two = registered(registry, name, folder)
    assert (one.version, two.version) == ("1", "2")
    assert [v.version for v in registry.versions(name)] == ["2", "1"]
    seen = registry.version(name, "1")
    assert seen.complete
    assert seen.metrics == {"roc_auc": 0.7}
    assert seen.tags["heliotrope.seed"] == "7"
    assert seen.run_id == registry.find_run(f"{name}-run")
    assert seen.aliases == ()
    assert name in registry.models()
    assert registry._link.client.get_model_version(name, "1").description == "# About it"


def test_a_file_beside_the_registered_model_is_read_like_any_other(registry, name, folder):
    version = registered(registry, name, folder)
    registry.log_text(version.run_id, "{}", "model/training.json")
    assert registry.read_text(version.run_id, "model/training.json") == "{}"
    assert registry.list_files(version.run_id, "model") == ["model/training.json"]


def test_an_alias_moves_and_points_at_one_version(registry, name, folder):
    registered(registry, name, folder)
    registered(registry, name, folder)
    assert registry.by_alias(name, ALIAS_CHAMPION) is None
    registry.set_alias(name, ALIAS_CHAMPION, "1")
    registry.set_alias(name, ALIAS_CANDIDATE, "1")
    registry.set_alias(name, ALIAS_CANDIDATE, "2")
    assert registry.by_alias(name, ALIAS_CHAMPION).version == "1"
    assert registry.by_alias(name, ALIAS_CANDIDATE).version == "2"
    assert registry.version(name, "2").aliases == (ALIAS_CANDIDATE,)


def test_unknown_names_say_what_there_is(registry, name, folder):
    registered(registry, name, folder)
    with pytest.raises(NotFoundError, match=r"must have a version 9\. It has: 1\."):
        registry.version(name, "9")
    with pytest.raises(NotFoundError, match=f"'no-such' must be a registered model.*{name}"):
        registry.version("no-such", "1")
    with pytest.raises(NotFoundError, match="version 7"):
        registry.set_alias(name, ALIAS_CHAMPION, "7")
    assert registry.versions("no-such") == []
    assert registry.by_alias("no-such", ALIAS_CHAMPION) is None
    assert registry.discard_incomplete("no-such") == []


def test_a_downloaded_folder_serves_and_knows_its_version(registry, name, folder, tmp_path):
    version = registered(registry, name, folder)
    got = registry.download(version, tmp_path / "served")
    contract = ServingContract.from_json((got / "serving.json").read_bytes())
    assert contract.version == version.version
    for file in ("model.onnx", "model.skops"):
        assert (got / file).read_bytes() == (folder / file).read_bytes()
    assert json.loads((got / "example.json").read_text()) == EXAMPLE
    assert {p.name for p in tmp_path.iterdir()} == {"served"}
    with pytest.raises(ConflictError, match="must be empty"):
        registry.download(version, got)


def test_the_artifact_uri_is_a_folder_that_a_storage_initializer_can_copy(registry, name, folder):
    version = registered(registry, name, folder)
    uri = registry.artifact_uri(version)
    assert uri.startswith("file:///")
    there = Path(uri.removeprefix("file://"))
    assert (there / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    assert ServingContract.from_json((there / "serving.json").read_bytes()).version == "1"


def test_the_version_is_a_model_of_mlflows_own(registry, name, folder):
    import mlflow.onnx
    import mlflow.pyfunc
    import pandas as pd

    version = registered(registry, name, folder)
    uri = registry.artifact_uri(version)
    model = mlflow.pyfunc.load_model(uri)
    rows = pd.DataFrame({"grade": [2.0, 0.0], "income": [2.0, 4.0]})
    want = 1 / (1 + np.exp(-np.array([2.0 * 0.5 - 2.0, 4.0 * 0.5])))
    answer = model.predict(rows)
    scores = answer["scores"] if isinstance(answer, dict) else answer
    np.testing.assert_allclose(np.ravel(scores), want, rtol=1e-6)
    assert model.metadata.get_input_schema().input_names() == ["income", "grade"]
    example = model.input_example
    assert example.to_dict("records") == [{"income": 2.0, "grade": 2.0}]
    assert mlflow.onnx.load_model(uri).graph.name == "tiny"
    assert not list(Path(uri.removeprefix("file://")).rglob("*.pkl"))


def test_a_folder_that_lacks_a_file_or_an_example_that_lacks_a_feature_registers_nothing(
    registry, name, folder, tmp_path
):
    run = registry.start_run(name, f"{name}-k", {})
    with pytest.raises(UsageError, match=r"model\.onnx"):
        registry.register(model_spec(name), run, tmp_path, {}, {}, EXAMPLE)
    with pytest.raises(UsageError, match="grade"):
        registry.register(model_spec(name), run, folder, {}, {}, {"income": 1.0})
    with pytest.raises(UsageError, match=r"example\.grade must be one of A, B, C. Got 'Z'"):
        registry.register(model_spec(name), run, folder, {}, {}, {"income": 1.0, "grade": "Z"})
    assert registry.versions(name) == []
    client = registry._link.client
    experiment = client.get_experiment_by_name(name).experiment_id
    assert list(client.search_logged_models([experiment])) == []


@pytest.mark.parametrize("broken", ["log_model_artifact", "finalize_logged_model"])
def test_an_interrupt_between_takes_the_version_back(registry, name, folder, monkeypatch, broken):
    client = registry._link.client
    with monkeypatch.context() as patch:

        def interrupt(*_: object, **__: object) -> None:
            assert list(client.search_model_versions(f"name = '{name}'"))
            raise KeyboardInterrupt

        patch.setattr(client, broken, interrupt)
        with pytest.raises(KeyboardInterrupt):
            registered(registry, name, folder)
    assert registry.versions(name) == []
    assert list(client.search_model_versions(f"name = '{name}'")) == []
    assert registered(registry, name, folder).version == "2"


def test_a_lost_answer_does_not_make_a_second_version(registry, name, folder, monkeypatch):
    import requests

    client = registry._link.client
    real, asked = client.create_model_version, []

    def lose_the_first(*args: object, **more: object) -> object:
        made = real(*args, **more)
        asked.append(made)
        if len(asked) == 1:
            raise requests.ConnectionError("the answer was lost")
        return made

    monkeypatch.setattr(client, "create_model_version", lose_the_first)
    assert registered(registry, name, folder).version == "1"
    assert len(list(client.search_model_versions(f"name = '{name}'"))) == 1


def test_what_an_earlier_failure_of_this_process_left_is_discarded(
    registry, name, folder, monkeypatch
):
    client = registry._link.client
    with monkeypatch.context() as patch:
        patch.setattr(client, "finalize_logged_model", _interrupt)
        patch.setattr(registry, "_undo", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            registered(registry, name, folder)
    assert registry.versions(name) == []
    assert registry.discard_incomplete(name) == ["1"]
    assert registry.discard_incomplete(name) == []
    assert list(client.search_model_versions(f"name = '{name}'")) == []


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_tags_are_added_to_a_version(registry, name, folder):
    registered(registry, name, folder)
    registry.tag_version(name, "1", {"heliotrope.note": "kept"})
    assert registry.version(name, "1").tags["heliotrope.note"] == "kept"
