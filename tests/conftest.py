"""A workshop for the end-to-end tests: a home of its own, small loans, the steps in order."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Before OpenMP is loaded: on a busy machine threads that spin while they wait make a fit take
# a hundred times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from heliotrope import vocabulary as names
from heliotrope.adapters.embedded.free_port import free_port
from heliotrope.bootstrap import (
    CHECKOUT,
    Platform,
    gate_candidate,
    platform,
    report_training,
    training_step,
)
from heliotrope.domain.run_events import RunEvent, RunOutcome
from heliotrope.spec import load_spec
from heliotrope.spec.loading import dump_spec

# In CI the same examples every time: a change is judged by what it changes, not by luck. On a
# desk new ones are tried.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

SPEC = """
name: toy
task: binary
entity_key: id
event_time: at
label: {name: y, positive: 1, delay: 30d}
source: {path: loans.csv}
features:
  - {name: income, type: float, min: 0, nullable: true}
  - {name: age, type: integer, min: 18, max: 100}
  - {name: zip, type: category, categories: ["01234", "0999", "07"]}
  - {name: owner, type: boolean}
trainer: {parameters: {max_iter: 20, n_iter_no_change: 5, max_leaf_nodes: 4}}
metrics: {primary: roc_auc, others: [log_loss, accuracy]}
slices: [{feature: zip}]
"""


def loans(
    rows: int = 2500, seed: int = 0, *, since: str = "2024-01-01", signal: float = 1.0
) -> pd.DataFrame:
    """Loans over 100 days; `signal` is how much income says about the label, about 35% positive."""
    random = np.random.default_rng(seed)
    income = random.lognormal(10, 0.5, rows).round(2)
    owner = random.random(rows) < 0.4
    lean = signal * (-2.5 * (np.log(income) - 10) - 1.2 * owner + 0.5) - 0.9
    return pd.DataFrame(
        {
            "id": [f"k{seed}-{i}" for i in range(rows)],
            "at": pd.Timestamp(since)
            + pd.to_timedelta(np.sort(random.integers(0, 100 * 86400, rows)), unit="s"),
            "income": income,
            "age": random.integers(18, 90, rows),
            "zip": random.choice(["01234", "0999", "07"], rows, p=[0.5, 0.3, 0.2]),
            "owner": owner,
            "y": (random.random(rows) < 1 / (1 + np.exp(-lean))).astype(int),
        }
    )


# A shell without job control starts its background jobs with SIGINT ignored.
_COMMAND = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from heliotrope.cli import main; main()"
)


@dataclass
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class Workshop:
    """A folder with data, a spec and a home of its own; runs trainings in or out of process."""

    folder: Path
    run_here: Callable[..., Ran]
    children: list[subprocess.Popen[str]] = field(default_factory=list)
    trained: int = 0
    artifacts: Path | None = None
    """Where the steps write; in the folder when left out."""

    @property
    def home(self) -> Path:
        return self.folder / ".heliotrope"

    @property
    def here(self) -> Platform:
        return platform()

    @staticmethod
    def loans(rows: int = 2500, seed: int = 0, **more: Any) -> pd.DataFrame:
        """See the function."""
        return loans(rows, seed, **more)

    def write(self, frame: pd.DataFrame | None, more: str = "", text: str = SPEC) -> Path:
        """Store data, where given, and a spec with `more` at its end; answers the spec's file."""
        if frame is not None:
            frame.to_csv(self.folder / "loans.csv", index=False)
        file = self.folder / "model.yaml"
        file.write_text(text + more)
        return file

    def train(self, spec_file: Path | None = None, *, cause: str = "person") -> RunOutcome:
        """The pipeline's steps in its order and with its conditions, all in this process."""
        self.trained += 1
        key = f"run-{self.trained}"
        spec = dump_spec(load_spec(spec_file or self.folder / "model.yaml"))
        art = (self.artifacts or self.folder / "artifacts") / key
        art.mkdir(parents=True)
        state, message = "SUCCEEDED", ""
        try:
            _steps(spec, key, cause, art)
        except Exception as error:  # noqa: BLE001 - a step may raise anything
            # As kfp.local does: all it knows of a step is that it failed.
            state, message = "FAILED", f"a task failed ({type(error).__name__} stays inside it)"
        report_training(spec, key, state, message, art / "outcome.md")
        outcome = self.here.run_log(key).outcome()
        assert outcome is not None
        assert outcome.outcome.replace("_", " ") in (art / "outcome.md").read_text()
        return outcome

    def cli(self, *words: str) -> Ran:
        """A command in this process, as `main` runs it."""
        return self.run_here(*words)

    def start(self, *words: str, **env: str) -> "subprocess.Popen[str]":
        """A command in a process group of its own."""
        child = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.children.append(child)
        return child

    def run(self, *words: str, **env: str) -> Ran:
        """A command in a process of its own, to its end."""
        return self.end(self.start(*words, **env))

    @staticmethod
    def end(child: "subprocess.Popen[str]", seconds: float = 240) -> Ran:
        """Wait for a command's end."""
        out, err = child.communicate(timeout=seconds)
        return Ran(child.returncode, out, err)

    def versions(self, model: str = "toy") -> dict[str, tuple[str, ...]]:
        """Aliases of each complete version."""
        return {v.version: v.aliases for v in self.here.registry.versions(model)}

    def tags(self, outcome: RunOutcome) -> dict[str, str]:
        """Tags of the run in MLflow, and its status as `status`."""
        run = mlflow_client(self.here.settings.tracking_uri).get_run(outcome.mlflow_run_id)
        return {**run.data.tags, "status": run.info.status}

    def run_folders(self) -> list[Path]:
        """Folders of the runs that the command started, oldest first."""
        return sorted((self.home / "runs").glob("toy-*"))

    def events(self, folder: Path) -> list[RunEvent]:
        return self.here.run_log(folder.name).events()


def _steps(spec: str, key: str, cause: str, art: Path) -> None:
    at = SimpleNamespace(
        **{name: art / name for name in ("snapshot", "quality", "model", "evaluation", "gate")}
    )
    with training_step("snapshot_data", spec, key) as run:
        run.take_snapshot(cause, at.snapshot)
    with training_step("validate_data", spec, key) as run:
        word = run.validate_data(at.snapshot, at.quality, art / "quality.html", art / "quality.md")
    if word != names.DATA_USABLE:
        with training_step("refuse_data", spec, key) as run:
            run.refuse_data(at.quality)
    with training_step("train_model", spec, key) as run:
        run.train_model(at.snapshot, at.model)
    with training_step("evaluate_model", spec, key) as run:
        run.evaluate_model(
            at.snapshot, at.model, at.evaluation, art / "evaluation.html", art / "evaluation.md"
        )
    verdict = gate_candidate(spec, at.evaluation, at.gate, art / "gate.md")
    if verdict == names.Verdict.PASS:
        with training_step("register_model", spec, key) as run:
            run.register_model(cause, at.snapshot, at.quality, at.model, at.evaluation, at.gate)
    else:
        with training_step("refuse_candidate", spec, key) as run:
            run.refuse_candidate(at.gate)


def mlflow_client(uri: str) -> Any:
    """MLflow's own client, to see what our adapter wrote."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty MLflow database, since migrating takes seconds."""
    from heliotrope.adapters.mlflow_registry import MlflowRegistry

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowRegistry(f"sqlite:///{file}").models()
    return file


@pytest.fixture
def workshop(
    tmp_path: Path,
    mlflow_template: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Workshop]:
    """An empty workshop; what it started is ended with it."""
    from heliotrope.cli import build_app, run_cli

    def run_here(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["heliotrope", *words])
        capfd.readouterr()
        code = run_cli(build_app())
        said = capfd.readouterr()
        return Ran(code, said.out, said.err)

    shop = Workshop(tmp_path, run_here)
    shop.home.mkdir()
    (shop.home / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    for name in (names.ENV_STORE, names.ENV_TRACKING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(names.ENV_HOME, str(shop.home))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    yield shop
    for child in shop.children:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@dataclass
class Postgres:
    """A PostgreSQL server of our own in a folder of its own, which may be stopped and started."""

    folder: Path
    binaries: Path
    owner: str
    port: int
    password: str = "s3cr3t-w0rd"

    @property
    def url(self) -> str:
        """Its superuser's."""
        return f"postgresql://ada:{self.password}@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        (self.folder / "word").write_text(self.password)
        (self.folder / "word").chmod(0o644)
        secure = (f"--pwfile={self.folder / 'word'}", "--auth=scram-sha-256", "--no-sync")
        self._run("initdb", "-D", "data", "-U", "ada", "--locale=C.UTF-8", *secure)

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        """At once, as when its machine goes down."""
        self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def database(self, name: str) -> str:
        """URL of a new, empty one."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url.removesuffix("postgres") + name

    def _run(self, program: str, *more: str) -> None:
        command = [str(self.binaries / program), *more]
        subprocess.run(
            command, user=self.owner, check=True, cwd=self.folder, capture_output=True, timeout=120
        )


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgres]:
    """A real PostgreSQL, Debian's; skipped where there is none."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    if not found:
        pytest.skip("PostgreSQL's initdb must be under /usr/lib/postgresql (Debian: postgresql)")
    # PostgreSQL refuses to run as root.
    owner = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(folder, owner)
    server = Postgres(folder, found[-1].parent, owner, free_port())
    server.make()
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def empty_database(postgresql: Postgres, request: pytest.FixtureRequest) -> str:
    """URL of a database of the test's own on a real PostgreSQL."""
    return postgresql.database(f"t{abs(hash(request.node.nodeid)) % 10**12}")


@contextmanager
def s3_process() -> Iterator[str]:
    """Address of an S3 server process on a free port."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        lines = []
        for line in server.stdout:
            lines.append(line)
            if "Running on " in line:
                break
        else:
            pytest.fail("the S3 server ended: " + "".join(lines))
        # An unread pipe fills up with the server's log and stops it.
        threading.Thread(target=server.stdout.read, daemon=True).start()
        yield lines[-1].split("Running on ")[1].strip()
        server.terminate()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 server that lets anyone in; all tests share it."""
    with s3_process() as address:
        yield address


@pytest.fixture(scope="module")
def own_s3_server() -> Iterator[str]:
    """An S3 server of a module's own, for what changes a server."""
    with s3_process() as address:
        yield address


@pytest.fixture
def bucket(s3_server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """s3:// of a bucket of the test's own, and the environment that leads to it."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    name = f"b{abs(hash(request.node.nodeid)) % 10**12}"
    boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1").create_bucket(Bucket=name)
    return f"s3://{name}"
