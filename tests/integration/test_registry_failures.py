"""Killed, raced, and with MLflow gone in the middle: no half-registered version is ever shown."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from heliotrope.adapters.mlflow_registry import MlflowRegistry
from heliotrope.adapters.mlflow_server import MlflowServer
from heliotrope.domain.serving import ServingContract
from heliotrope.errors import UnavailableError, UsageError
from heliotrope.spec import parse_spec
from heliotrope.vocabulary import Task

SPEC = """
name: loans
task: binary
label: {name: defaulted, positive: 1}
source: {path: loans.csv}
metrics: {primary: roc_auc}
features:
  - {name: income, type: float}
"""
EXAMPLE = {"income": 2.0}
STEPS = (
    "create_registered_model",
    "create_logged_model",
    "log_model_artifacts",
    "create_model_version",
    "log_model_artifact",
    "finalize_logged_model",
    "set_model_version_tag",
)
CHILD = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from heliotrope.adapters.mlflow_registry import MlflowRegistry
    from heliotrope.spec import parse_spec

    uri, folder, spec, key, die_after = sys.argv[1:]
    registry = MlflowRegistry(uri, patience=30)
    run = registry.start_run("loans", key, {})
    if die_after:
        client = registry._link.client
        real = getattr(client, die_after)
        def last(*args, **more):
            real(*args, **more)
            os.kill(os.getpid(), signal.SIGKILL)
        setattr(client, die_after, last)
    version = registry.register(parse_spec(spec), run, Path(folder), {}, {}, {"income": 2.0})
    print(version.version)
    """
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files named as a model's; nothing here is loaded."""
    out = tmp_path_factory.mktemp("folder")
    (out / "model.onnx").write_bytes(b"graph")
    (out / "model.skops").write_bytes(b"pipeline")
    contract = ServingContract(
        model="loans", task=Task.BINARY, features=parse_spec(SPEC).features, classes=("0", "1")
    )
    (out / "serving.json").write_text(contract.to_json())
    return out


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database, since migrating takes seconds."""
    home = tmp_path_factory.mktemp("template")
    MlflowRegistry(f"sqlite:///{home}/mlflow.db").models()
    return home / "mlflow.db"


@pytest.fixture
def uri(template: Path, tmp_path: Path) -> str:
    (tmp_path / "mlflow.db").write_bytes(template.read_bytes())
    return f"sqlite:///{tmp_path}/mlflow.db"


def child(uri: str, folder: Path, key: str, die_after: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, uri, str(folder), SPEC, key, die_after],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def register(registry: MlflowRegistry, folder: Path, key: str = "again") -> str:
    run = registry.start_run("loans", key, {})
    return registry.register(parse_spec(SPEC), run, folder, {}, {}, EXAMPLE).version


@pytest.mark.parametrize("step", STEPS)
def test_a_process_killed_after_a_step_leaves_nothing_half_registered(uri, folder, step):
    killed = child(uri, folder, "killed", die_after=step)
    out, errors = killed.communicate(timeout=200)
    assert killed.returncode == -signal.SIGKILL, out + errors
    registry = MlflowRegistry(uri)
    client = registry._link.client
    was_complete = step == "set_model_version_tag"
    assert [v.version for v in registry.versions("loans")] == (["1"] if was_complete else [])
    began = step in STEPS[STEPS.index("create_model_version") :] and not was_complete
    assert registry.discard_incomplete("loans") == (["1"] if began else [])
    assert len(list(client.search_model_versions("name = 'loans'"))) == int(was_complete)
    experiment = client.get_experiment_by_name("loans").experiment_id
    assert len(client.search_logged_models([experiment])) == int(was_complete)
    again = register(registry, folder)
    assert registry.versions("loans")[0].version == again
    assert all(v.complete for v in registry.versions("loans"))


def test_two_processes_on_a_fresh_database_both_register(tmp_path, folder):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    pair = [child(uri, folder, key) for key in ("one", "two")]
    said = [process.communicate(timeout=250) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said
    assert sorted(out.strip() for out, _ in said) == ["1", "2"]
    assert [v.version for v in MlflowRegistry(uri).versions("loans")] == ["2", "1"]
    assert [errors for _, errors in said] == ["", ""]


def test_a_registration_that_another_process_is_at_is_left_alone(uri, folder):
    registry = MlflowRegistry(uri)
    pause = "print('at it', flush=True); input()"
    code = CHILD.replace("os.kill(os.getpid(), signal.SIGKILL)", pause)
    busy = subprocess.Popen(
        [sys.executable, "-c", code, uri, str(folder), SPEC, "busy", "create_model_version"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert busy.stdout is not None
    assert busy.stdout.readline() == "at it\n"
    assert registry.discard_incomplete("loans") == []
    assert not registry.settle("loans", below="2", timeout=0.3)
    busy.kill()
    busy.communicate(timeout=30)
    assert registry.settle("loans", below="2", timeout=0.3)
    assert registry.discard_incomplete("loans") == ["1"]


def test_a_registration_on_another_machine_is_dead_only_when_it_is_old(uri, folder, monkeypatch):
    from heliotrope.adapters import mlflow_registry

    registry = MlflowRegistry(uri)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_undo", lambda *_: None)
        elsewhere = mlflow_registry.Registrar("elsewhere", 1, "1")
        patch.setattr(mlflow_registry.Registrar, "current", classmethod(lambda _: elsewhere))
        patch.setattr(registry._link.client, "finalize_logged_model", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            register(registry, folder)
    assert registry.discard_incomplete("loans") == []
    impatient = MlflowRegistry(uri, stale_after=timedelta(0))
    assert impatient.discard_incomplete("loans") == ["1"]


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server that hands files out itself, which is MLflow's default."""
    home = tmp_path_factory.mktemp("proxied")
    options = ["--artifacts-destination", str(home / "files")]
    with MlflowServer(f"sqlite:///{home}/server.db", options=options) as server:
        yield server


def test_a_server_that_hands_files_out_itself_can_be_read_but_not_deployed_from(
    proxied, folder, tmp_path
):
    registry = MlflowRegistry(proxied.url, patience=20)
    register(registry, folder, "proxied")
    version = registry.versions("loans")[0]
    got = registry.download(version, tmp_path / "served")
    assert (got / "model.onnx").read_bytes() == b"graph"
    assert json.loads((got / "serving.json").read_text())["version"] == version.version
    with pytest.raises(UsageError, match="--no-serve-artifacts --default-artifact-root s3://"):
        registry.artifact_uri(version)


def test_mlflow_gone_in_the_middle_is_said_with_its_address_and_nothing_is_left(
    tmp_path, folder, template
):
    database = tmp_path / "server.db"
    database.write_bytes(template.read_bytes())
    options = ["--artifacts-destination", str(tmp_path / "files")]
    first = MlflowServer(f"sqlite:///{database}", options=options)
    with first:
        registry = MlflowRegistry(first.url.replace("://", "://ada:secret@"), patience=1.5)
        run = registry.start_run("loans", "cut off", {})
        client = registry._link.client
        real = client.create_model_version

        def then_gone(*args: object, **more: object) -> object:
            made = real(*args, **more)
            os.killpg(first.pid, signal.SIGKILL)
            return made

        client.create_model_version = then_gone
        with pytest.raises(UnavailableError) as caught:
            registry.register(parse_spec(SPEC), run, folder, {}, {}, EXAMPLE)
    address = first.url.replace("http://", "http://***@")
    assert str(caught.value).startswith(f"MLflow at {address} must answer to ")
    assert "secret" not in "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "the next training removes it" in caught.value.__notes__[0]
    port = int(first.url.rpartition(":")[2])
    with MlflowServer(f"sqlite:///{database}", port=port, options=options) as second:
        back = MlflowRegistry(second.url, patience=20)
        assert back.versions("loans") == []
        assert back.discard_incomplete("loans") == ["1"]
        assert register(back, folder) == "2"


def test_a_tracking_uri_of_a_kind_that_holds_no_registry_is_refused():
    with pytest.raises(
        UsageError, match=r"must be sqlite:///path or http.*Got 'ftp://\*\*\*@host'"
    ):
        MlflowRegistry("ftp://ada:secret@host")
