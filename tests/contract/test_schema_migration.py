"""`heliotrope state`: tables are made once however many start at once, on SQLite and PostgreSQL."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from heliotrope.adapters.mlflow_schema import MlflowSchema
from heliotrope.adapters.sql_schema import HEAD
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.adapters.sql_upgrade import StateSchema
from heliotrope.errors import HeliotropeError, UnavailableError, UsageError
from heliotrope.ports.state import Schema

PASSWORD = "s3cr3t-w0rd"
NOWHERE = f"postgresql://ada:{PASSWORD}@127.0.0.1:1/db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'a folder'}/one.db"
    made: str = request.getfixturevalue("empty_database")
    return made


def schema_of(kind: str, url: str) -> Schema:
    return StateSchema(url) if kind == "state" else MlflowSchema(url)


_MIGRATE = {
    "state": "from heliotrope.adapters.sql_upgrade import StateSchema as Schema",
    "mlflow": "from heliotrope.adapters.mlflow_schema import MlflowSchema as Schema",
}
_RACE = """
import sys, tempfile
schema = Schema(sys.argv[1])
# As pods do: with nothing but the database in common.
tempfile.tempdir = tempfile.mkdtemp(dir=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(schema.migrate().revision)
"""


@pytest.mark.parametrize("kind", ["state", "mlflow"])
def test_of_several_that_start_at_once_one_makes_the_tables(
    kind: str, url: str, tmp_path: Path
) -> None:
    schema = schema_of(kind, url)
    before = schema.status()
    assert (before.revision, before.current) == (None, False)
    command = [sys.executable, "-c", _MIGRATE[kind] + _RACE, url, str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # MLflow's own migrations take seconds, and importing it does.
    count = {"state": 4, "mlflow": 2}[kind]
    racers = [subprocess.Popen(command, stderr=subprocess.PIPE, **pipes) for _ in range(count)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    ended = [racer.communicate("\n", timeout=240) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * count, ended
    wanted = before.wanted
    assert sorted(out.strip() for out, _ in ended) == sorted(["None"] + [wanted] * (count - 1))
    assert schema.status().current
    assert schema.migrate().current


def test_looking_makes_nothing(tmp_path: Path) -> None:
    for kind in ("state", "mlflow"):
        assert schema_of(kind, f"sqlite:///{tmp_path}/{kind}.db").status().revision is None
    assert list(tmp_path.iterdir()) == []


def test_a_writer_without_the_right_to_make_tables_works_after_the_migration(
    postgresql: Any, empty_database: str
) -> None:
    """What the controller runs as; only the init step needs the owner's rights."""
    StateSchema(empty_database).migrate()
    name = f"w{abs(hash(empty_database)) % 10**9}"
    with psycopg.connect(empty_database, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'other'".encode())
        rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
        owner.execute(f"GRANT {rights} TO {name}".encode())
    writer = SqlStateStore(
        empty_database.replace(f"ada:{postgresql.password}", f"{name}:other"), patience=20
    )
    assert writer.decisions("credit") == []
    writer.close()


@pytest.mark.parametrize("kind", ["state", "mlflow"])
def test_a_newer_releases_database_is_left_alone(kind: str, url: str) -> None:
    schema_of(kind, url).migrate()
    driver = url.replace("postgresql:", "postgresql+psycopg:")
    table = {"state": "heliotrope_version", "mlflow": "alembic_version"}[kind]
    engine = sa.create_engine(driver)
    with engine.begin() as connection:
        connection.execute(
            sa.update(sa.table(table, sa.column("version_num"))).values(version_num="f00f")
        )
    assert schema_of(kind, url).status().revision == "f00f"
    with pytest.raises(HeliotropeError, match="f00f"):
        schema_of(kind, url).migrate()
    engine.dispose()


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    impatient: list[Schema] = [StateSchema(NOWHERE, patience=0.3), MlflowSchema(NOWHERE)]
    for schema in impatient:
        for deed in (schema.status, schema.migrate):
            with pytest.raises(UnavailableError, match=r"ada:\*\*\*@127.0.0.1") as caught:
                deed()
            assert PASSWORD not in str(caught.value)


def test_a_tracking_server_is_no_database_to_migrate() -> None:
    with pytest.raises(UsageError, match="must be sqlite:///path or"):
        MlflowSchema("http://ada:hunter2@mlflow:5000")


def test_the_command_says_what_it_did_and_what_is_left(
    workshop: Any, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIOTROPE_STATE", empty_database)
    behind = workshop.cli("state", "status")
    assert behind.code == 1
    assert f"must be at {HEAD}. Got an empty database" in behind.out
    done = workshop.cli("state", "migrate")
    assert (done.code, f"from empty to {HEAD}." in done.out) == (0, True)
    # MLflow's, in the workshop's home, was made before.
    assert "already; nothing was done." in done.out
    assert PASSWORD not in done.out + behind.out
    shown = json.loads(workshop.cli("state", "status", "--json").out)
    assert (shown[0]["name"], shown[0]["revision"], shown[0]["current"]) == ("state", HEAD, True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert "mlflow" not in workshop.cli("state", "status").out
