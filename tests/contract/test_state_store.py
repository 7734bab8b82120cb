"""Every state store keeps the same promises: on SQLite, on a real PostgreSQL, and in memory."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from heliotrope.adapters.embedded.free_port import free_port
from heliotrope.adapters.embedded.memory_state import MemoryState
from heliotrope.adapters.sql_link import SqlLink
from heliotrope.adapters.sql_schema import HEAD, current, migrate
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.adapters.sql_tables import DECISIONS, METADATA
from heliotrope.domain.decisions import DecisionEntry, DecisionKind, first_broken
from heliotrope.errors import (
    ConflictError,
    DataFault,
    HeliotropeError,
    UnavailableError,
    UsageError,
)
from heliotrope.ports.state import Put, StateKind

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
PASSWORD = "s3cr3t-w0rd"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    return empty_database(request, str(request.param), tmp_path)


def empty_database(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> str:
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'a hôme'}/state.db"
    made: str = request.getfixturevalue("empty_database")
    return made


@pytest.fixture
def store(url: str) -> Iterator[SqlStateStore]:
    """A store in it."""
    made = SqlStateStore(url, patience=20)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def anywhere(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[SqlStateStore | MemoryState]:
    """Any store at all."""
    if request.param == "memory":
        yield MemoryState()
        return
    made = SqlStateStore(empty_database(request, str(request.param), tmp_path), patience=20)
    yield made
    made.close()


def entry(number: int = 0, model: str = "credit", key: str | None = None) -> DecisionEntry:
    return DecisionEntry(
        model=model,
        at=NOW + timedelta(minutes=number),
        kind=DecisionKind.TRIGGER if number % 2 else DecisionKind.VERDICT,
        actor="controller",
        subject=f"window {number}",
        reason=f"accuracy .713 over {number} labels < floor .90",
        evidence={"labels": number, "level": 0.1 + 0.2},
        key=key,
    )


def put(text: str, expected: int, key: str = "3", model: str = "credit") -> Put:
    return Put(StateKind.ROLLOUT, model, key, text, expected)


def test_a_document_comes_back_as_it_was_put(anywhere: SqlStateStore | MemoryState) -> None:
    text = '{"reason": "naïve ✓ \\u0000", "level": 0.30000000000000004}'
    anywhere.apply(NOW, [put(text, 0)])
    kept = anywhere.get(StateKind.ROLLOUT, "credit", "3")
    assert kept is not None
    assert (kept.text, kept.revision, kept.changed_at) == (text, 1, NOW)
    assert anywhere.get(StateKind.ROLLOUT, "credit", "4") is None
    assert anywhere.get(StateKind.TRIGGER, "credit", "3") is None


def test_documents_of_a_kind_come_with_the_latest_change_first(
    anywhere: SqlStateStore | MemoryState,
) -> None:
    anywhere.apply(NOW, [put("a", 0, "1"), put("b", 0, "2", "other")])
    anywhere.apply(NOW + timedelta(hours=1), [put("c", 0, "3")])
    anywhere.apply(NOW + timedelta(hours=2), [put("d", 1, "1")])
    assert [k.text for k in anywhere.kept(StateKind.ROLLOUT)] == ["d", "c", "b"]
    assert [k.text for k in anywhere.kept(StateKind.ROLLOUT, "credit")] == ["d", "c"]
    assert anywhere.kept(StateKind.ALARM) == []


@pytest.mark.parametrize("expected", [0, 2, 7])
def test_a_stale_document_is_refused_and_nothing_of_its_batch_is_written(
    anywhere: SqlStateStore | MemoryState, expected: int
) -> None:
    anywhere.apply(NOW, [put("first", 0)])
    with pytest.raises(ConflictError, match=f"must be at revision {expected}"):
        anywhere.apply(NOW, [put("new", 0, "9"), put("second", expected)], [entry(1)])
    assert anywhere.get(StateKind.ROLLOUT, "credit", "9") is None
    assert [k.text for k in anywhere.kept(StateKind.ROLLOUT)] == ["first"]
    assert anywhere.decisions("credit") == []
    assert anywhere.head("credit")[0] == 0


def test_the_log_is_a_chain_for_each_model_and_may_be_read_in_part(
    anywhere: SqlStateStore | MemoryState,
) -> None:
    anywhere.apply(NOW, decisions=[entry(0), entry(1), entry(0, "other")])
    anywhere.apply(NOW, decisions=[entry(n) for n in range(2, 6)])
    log = anywhere.decisions("credit")
    assert [d.sequence for d in log] == [1, 2, 3, 4, 5, 6]
    assert first_broken(log) is None
    assert first_broken(anywhere.decisions("other")) is None
    assert anywhere.head("credit") == (6, log[-1].hash)
    assert anywhere.models() == ["credit", "other"]
    assert anywhere.decisions("credit", since=NOW + timedelta(minutes=4)) == log[4:]
    assert anywhere.decisions("credit", kinds=[DecisionKind.TRIGGER], limit=2) == [log[3], log[5]]
    assert anywhere.decisions("nobody") == []


@pytest.mark.parametrize(
    "evidence",
    [
        {"level": float("nan"), "top": float("inf")},
        {"at": NOW, "steps": (10, 25), "names": {3: "three"}, "text": "a\u0000b ✓ \\u0000"},
        {"small": 5e-324, "large": 2**70, "none": None, "nested": [{"z": 1, "a": [True]}]},
    ],
)
def test_what_is_sealed_is_what_is_read_whatever_the_evidence(
    anywhere: SqlStateStore | MemoryState, evidence: dict[str, object]
) -> None:
    odd = entry(1).model_copy(
        update={
            "evidence": evidence,
            "reason": "a\u0000b ✓",
            "at": NOW.astimezone(datetime.fromisoformat("2026-01-01T00:00:00+05:30").tzinfo),
        }
    )
    answered = anywhere.apply(NOW, decisions=[odd, entry(2)])
    assert anywhere.decisions("credit") == answered
    assert first_broken(anywhere.decisions("credit")) is None


def test_a_time_without_a_zone_is_refused(anywhere: SqlStateStore | MemoryState) -> None:
    with pytest.raises(UsageError, match="must have a zone"):
        anywhere.apply(NOW, decisions=[entry().model_copy(update={"at": NOW.replace(tzinfo=None)})])


def test_a_decision_that_is_written_again_stays_as_it_was_first(
    anywhere: SqlStateStore | MemoryState,
) -> None:
    first = anywhere.apply(NOW, decisions=[entry(0, key="k"), entry(1)])
    again = anywhere.apply(NOW, decisions=[entry(5, key="k"), entry(6, key="l"), entry(7, key="l")])
    assert again[0] == first[0]
    assert again[1] == again[2]
    assert anywhere.apply(NOW, decisions=[entry(8, "other", key="k")])[0].sequence == 1
    assert [d.sequence for d in anywhere.decisions("credit")] == [1, 2, 3]
    assert first_broken(anywhere.decisions("credit")) is None


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (sa.update(DECISIONS).values(reason="all was well"), 3),
        (sa.update(DECISIONS).values(at=NOW - timedelta(days=1)), 3),
        (sa.update(DECISIONS).values(evidence='{"labels": 9}'), 3),
        (sa.delete(DECISIONS), 4),
        (sa.update(DECISIONS).values(sequence=99), 4),
    ],
)
def test_a_row_that_was_tampered_with_is_found(
    store: SqlStateStore, url: str, change: sa.Update | sa.Delete, found: int
) -> None:
    store.apply(NOW, decisions=[entry(n) for n in range(5)])
    link = SqlLink(url)
    link.write(lambda c: c.execute(change.where(DECISIONS.c.sequence == 3)))
    link.close()
    broken = first_broken(store.decisions("credit"))
    assert broken is not None
    assert broken.sequence == found


def test_an_end_that_was_cut_off_shows_in_the_head(store: SqlStateStore, url: str) -> None:
    store.apply(NOW, decisions=[entry(n) for n in range(5)])
    link = SqlLink(url)
    link.write(lambda c: c.execute(sa.delete(DECISIONS).where(DECISIONS.c.sequence == 5)))
    link.close()
    log = store.decisions("credit")
    assert first_broken(log) is None
    assert store.head("credit") != (log[-1].sequence, log[-1].hash)


def test_a_row_that_cannot_be_read_is_said_to_be_a_fault(store: SqlStateStore, url: str) -> None:
    store.apply(NOW, decisions=[entry(1)])
    link = SqlLink(url)
    link.write(lambda c: c.execute(sa.update(DECISIONS).values(evidence="{")))
    link.close()
    with pytest.raises(DataFault, match="Entry 1 of credit's log"):
        store.decisions("credit")


def _race(store: SqlStateStore, writer: int, rounds: int) -> None:
    for number in range(rounds):
        while True:
            kept = store.get(StateKind.CURSOR, "credit", "count")
            count, revision = (int(kept.text), kept.revision) if kept else (0, 0)
            counted = Put(StateKind.CURSOR, "credit", "count", str(count + 1), revision)
            own = entry(number, key=f"{writer}/{number}")
            try:
                store.apply(NOW, [counted], [own, entry(number, key=f"shared/{number}")])
            except ConflictError:
                continue
            break


_RACE = """
import runpy, sys
here = runpy.run_path(sys.argv[1])
store = here["SqlStateStore"](sys.argv[2], patience=60)
here["_race"](store, int(sys.argv[4]), int(sys.argv[3]))
"""


def test_racing_threads_and_processes_lose_nothing_and_make_one_chain(url: str) -> None:
    rounds = 12
    # Nobody has opened it yet: the migrations race too.
    command = [sys.executable, "-c", _RACE, __file__, url, str(rounds)]
    processes = [subprocess.Popen([*command, str(n)]) for n in range(2)]
    store = SqlStateStore(url, patience=60)
    threads = [threading.Thread(target=_race, args=(store, n, rounds)) for n in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    kept = store.get(StateKind.CURSOR, "credit", "count")
    log = store.decisions("credit")
    store.close()
    assert kept is not None
    assert (int(kept.text), kept.revision) == (4 * rounds, 4 * rounds)
    assert first_broken(log) is None
    assert len(log) == 5 * rounds
    assert {d.key for d in log} == {
        f"{writer}/{n}" for writer in (0, 1, 2, 3, "shared") for n in range(rounds)
    }


_ENDLESS = """
import sys
from datetime import UTC, datetime
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.domain.decisions import DecisionEntry, DecisionKind
from heliotrope.ports.state import Put, StateKind
store, at = SqlStateStore(sys.argv[1]), datetime(2026, 1, 1, tzinfo=UTC)
for n in range(10**6):
    fields = dict(model="credit", at=at, actor="controller", subject="s", reason="r" * 2000)
    one = DecisionEntry(kind=DecisionKind.VERDICT, **fields)
    store.apply(at, [Put(StateKind.CURSOR, "credit", "n", str(n + 1), n)], [one, one, one])
    print(n + 1, flush=True)
"""


def test_a_killed_writer_leaves_whole_transactions_only(url: str, store: SqlStateStore) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, url], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        acknowledged = 0
        for line in writer.stdout:
            acknowledged = int(line)
            if acknowledged == 20:
                break
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.strip())])
    kept = store.get(StateKind.CURSOR, "credit", "n")
    log = store.decisions("credit")
    assert kept is not None
    assert int(kept.text) >= acknowledged >= 20
    assert len(log) == 3 * int(kept.text)
    assert first_broken(log) is None
    assert store.head("credit") == (log[-1].sequence, log[-1].hash)
    assert store.apply(NOW, decisions=[entry(1)])[0].sequence == len(log) + 1


def test_the_migrations_make_what_the_code_expects(url: str) -> None:
    link = SqlLink(url)
    tables = link.read(lambda c: {t: sa.inspect(c).get_columns(t) for t in METADATA.tables})
    keys = link.read(lambda c: {t: sa.inspect(c).get_pk_constraint(t) for t in METADATA.tables})
    indexes = link.read(lambda c: {i["name"] for i in sa.inspect(c).get_indexes("decisions")})
    assert link.read(current) == HEAD
    link.write(migrate)
    link.close()
    for name, table in METADATA.tables.items():
        assert {c["name"]: c["nullable"] for c in tables[name]} == {
            c.name: bool(c.nullable) for c in table.columns
        }
        assert keys[name]["constrained_columns"] == [c.name for c in table.primary_key]
    assert {i.name for i in DECISIONS.indexes} <= indexes


def test_a_database_of_a_newer_release_is_left_alone(url: str) -> None:
    link = SqlLink(url)
    link.write(lambda c: c.exec_driver_sql("UPDATE heliotrope_version SET version_num = '9999'"))
    link.close()
    store = SqlStateStore(url)
    with pytest.raises(HeliotropeError, match=r"Got 9999: a newer Heliotrope was here"):
        store.decisions("credit")
    store.close()


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    store = SqlStateStore(f"sqlite:///{tmp_path}/new/state.db")
    store.apply(NOW, decisions=[entry(1)])
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "new").iterdir()}
    store.close()
    assert modes["state.db"] == 0o600
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("text", ["mysql://u:p@h/d", "sqlite://", "sqlite:///:memory:", "nonsense"])
def test_a_url_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="HELIOTROPE_STATE must"):
        SqlStateStore(text)


def test_a_silent_database_is_named_without_its_password() -> None:
    url = f"postgresql://ada:{PASSWORD}@127.0.0.1:{free_port()}/db"
    store = SqlStateStore(url, patience=0.3)
    with pytest.raises(UnavailableError, match=r"ada:\*\*\*@127.0.0.1") as caught:
        store.decisions("credit")
    store.close()
    assert PASSWORD not in f"{caught.value}{store!r}"


def test_a_wrong_password_is_not_tried_again_nor_shown(postgresql: Any) -> None:
    wrong = postgresql.url.replace(postgresql.password, "wr0ng-w0rd")
    store = SqlStateStore(wrong, patience=3600)
    with pytest.raises(HeliotropeError, match="authentication failed") as caught:
        store.decisions("credit")
    store.close()
    assert "wr0ng-w0rd" not in f"{caught.value}{store!r}"


def test_a_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("hello " * 1000)
    with pytest.raises(HeliotropeError, match="not a database"):
        SqlStateStore(f"sqlite:///{tmp_path}/state.db").decisions("credit")


def test_a_lock_that_is_held_too_long_is_unavailable_and_over_when_it_is_let_go(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/state.db"
    impatient = SqlStateStore(url, patience=0.3)
    impatient.apply(NOW, decisions=[entry(1)])
    held, go = threading.Event(), threading.Event()

    def hold(_: sa.Connection) -> None:
        held.set()
        assert go.wait(60)

    holder = threading.Thread(target=lambda: SqlLink(url).write(hold))
    holder.start()
    assert held.wait(60)
    with pytest.raises(UnavailableError, match="locked"):
        impatient.apply(NOW, decisions=[entry(2)])
    assert len(impatient.decisions("credit")) == 1
    go.set()
    holder.join()
    assert impatient.apply(NOW, decisions=[entry(2)])[0].sequence == 2
    impatient.close()
