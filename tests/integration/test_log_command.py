"""`heliotrope log`: what was decided, and whether it is as it was written."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer

from heliotrope.adapters.sql_link import SqlLink
from heliotrope.adapters.sql_state import SqlStateStore
from heliotrope.adapters.sql_tables import DECISIONS, HEADS
from heliotrope.cli import log, run_cli
from heliotrope.domain.decisions import DecisionEntry, DecisionKind

T0 = datetime(2026, 3, 1, 6, tzinfo=UTC)
KINDS = (DecisionKind.VERDICT, DecisionKind.TRIGGER, DecisionKind.ROLLOUT)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A log of six entries, an hour apart."""
    monkeypatch.setenv("HELIOTROPE_HOME", str(tmp_path))
    monkeypatch.delenv("HELIOTROPE_STATE", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    made = f"sqlite:///{tmp_path}/state.db"
    store = SqlStateStore(made)
    for number in range(6):
        entry = DecisionEntry(
            model="loans",
            at=T0 + timedelta(hours=number),
            kind=KINDS[number % 3],
            actor="controller",
            subject=f"version {number}",
            reason=f"accuracy .9{number} [.9, .95] over 1,24{number} labels",
        )
        store.apply(entry.at, decisions=[entry])
    store.close()
    return made


def command(*words: str) -> int:
    """The exit code of the command in this process."""
    app = typer.Typer()
    log.register(app)
    return run_cli(lambda **more: app(list(words), **more))


def test_the_log_is_a_table_of_who_decided_what_and_why(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("loans") == 0
    said = capsys.readouterr().out
    assert "accuracy .93 [.9, .95] over 1,243 labels" in said
    assert "03-01 09:00:00" in said
    assert said.index("version 0") < said.index("version 5")


def test_parts_of_the_log_are_the_newest_of_a_kind_since_a_time(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = ("loans", "--json", "--kind", "trigger", "--kind", "rollout")
    assert command(*shown, "--since", "2026-03-01T07:30", "-n", "2") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["sequence"] for one in found] == [5, 6]
    assert command(*shown, "--since", "2026-03-01T07:30") == 0
    assert [one["sequence"] for one in json.loads(capsys.readouterr().out)] == [3, 5, 6]


def test_a_whole_log_verifies(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("loans", "--verify") == 0
    assert "6 entries, every one as it was written" in capsys.readouterr().out


_FOURTH = DECISIONS.c.sequence == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([sa.update(DECISIONS).where(_FOURTH).values(reason="fine")], "BROKEN at entry 4"),
        ([sa.delete(DECISIONS).where(_FOURTH)], "BROKEN at entry 5"),
        ([sa.delete(DECISIONS).where(DECISIONS.c.sequence == 6)], "BROKEN after entry 5: 1 at"),
        ([sa.delete(DECISIONS)], "BROKEN after entry 0: 6 at"),
        ([sa.update(DECISIONS).where(_FOURTH).values(evidence="x")], "BROKEN: Entry 4"),
        ([sa.update(HEADS).values(sequence=3)], "BROKEN: the log's end, entry 6"),
        ([sa.update(HEADS).values(hash="0" * 64)], "BROKEN: the log's end, entry 6"),
    ],
)
def test_a_log_that_was_changed_is_broken_where_it_was_changed(
    url: str, capsys: pytest.CaptureFixture[str], changes: list[sa.Update | sa.Delete], said: str
) -> None:
    link = SqlLink(url)
    for change in changes:
        link.write(lambda c, change=change: c.execute(change))  # type: ignore[misc]
    link.close()
    assert command("loans", "--verify") == 1
    assert said in capsys.readouterr().err


def test_a_model_that_nothing_was_decided_on_names_those_there_are(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("loan") == 3
    assert "decisions on loans" in capsys.readouterr().err


def test_a_kind_that_is_none_names_those_there_are(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("loans", "--kind", "thoughts") == 2
    assert "verdict, alarm, diagnosis" in capsys.readouterr().err
