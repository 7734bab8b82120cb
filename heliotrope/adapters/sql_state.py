"""The controller's memory in SQL: SQLite on one machine, PostgreSQL on a cluster."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from heliotrope.adapters.sql_link import SqlLink
from heliotrope.adapters.sql_tables import DECISIONS, DOCUMENTS, HEADS
from heliotrope.domain.decisions import FIRST, Decision, DecisionEntry, DecisionKind, seal
from heliotrope.errors import ConflictError, DataFault, UsageError
from heliotrope.ports.state import Kept, Put, StateKind

_NUL = re.compile(r"((?<!\\)(?:\\\\)*)\\u0000")
"""An escaped NUL in JSON, not an escaped backslash before `u0000`."""


class SqlStateStore:
    """Documents and the decision log in one database, for any number of processes and threads.

    Writers of one model's log wait for each other (a lock on the row of its newest link on
    PostgreSQL, SQLite's single writer), so that the chain has no holes and no forks.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host/database`.
        patience: seconds that a call is tried again while the database does not answer.

    >>> import tempfile
    >>> store = SqlStateStore(f"sqlite:///{tempfile.mkdtemp()}/state.db")
    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> store.apply(now, [Put(StateKind.CURSOR, "credit", "drift", "{}", expected=0)])
    []
    >>> store.get(StateKind.CURSOR, "credit", "drift").revision
    1
    """

    def __init__(self, url: str, *, patience: float = 20.0) -> None:
        self._link = SqlLink(url, patience=patience)

    def __repr__(self) -> str:
        """Without the password."""
        return f"SqlStateStore({self._link.shown!r})"

    def close(self) -> None:
        """Let go of all connections."""
        self._link.close()

    def get(self, kind: StateKind, model: str, key: str = "") -> Kept | None:
        """One document."""
        where = _is(kind, model, key)
        row = self._link.read(lambda c: c.execute(sa.select(DOCUMENTS).where(where)).one_or_none())
        return None if row is None else _kept(row)

    def kept(self, kind: StateKind, model: str | None = None) -> list[Kept]:
        """All of a kind, the latest change first."""
        query = sa.select(DOCUMENTS).where(DOCUMENTS.c.kind == kind.value)
        if model is not None:
            query = query.where(DOCUMENTS.c.model == model)
        order = (DOCUMENTS.c.changed_at.desc(), DOCUMENTS.c.model, DOCUMENTS.c.key)
        rows = self._link.read(lambda c: c.execute(query.order_by(*order)).all())
        return [_kept(row) for row in rows]

    def apply(
        self, now: datetime, puts: Sequence[Put] = (), decisions: Sequence[DecisionEntry] = ()
    ) -> list[Decision]:
        """Write documents and decisions in one transaction, wholly or not at all.

        Raises:
            ConflictError: a document is not at the expected revision; nothing was written.
            UnavailableError: the database does not answer.
        """
        entries = [_storable(entry) for entry in decisions]
        # In one order everywhere, so that two writers never wait for each other crosswise.
        ordered = sorted(puts, key=lambda put: (put.kind.value, put.model, put.key))
        models = sorted({entry.model for entry in entries})

        def work(connection: sa.Connection) -> list[Decision]:
            heads = {model: self._lock_head(connection, model) for model in models}
            for put in ordered:
                self._put(connection, put, now)
            written = [_append(connection, entry, heads) for entry in entries]
            for model, (sequence, digest) in heads.items():
                link = {"sequence": sequence, "hash": digest}
                connection.execute(sa.update(HEADS).where(HEADS.c.model == model).values(link))
            return written

        return self._link.write(work)

    def decisions(
        self,
        model: str,
        *,
        since: datetime | None = None,
        kinds: Sequence[DecisionKind] = (),
        limit: int | None = None,
    ) -> list[Decision]:
        """The log, oldest first; with a limit the newest so many."""
        query = sa.select(DECISIONS).where(DECISIONS.c.model == model)
        if since is not None:
            query = query.where(DECISIONS.c.at >= since)
        if kinds:
            query = query.where(DECISIONS.c.kind.in_([kind.value for kind in kinds]))
        query = query.order_by(DECISIONS.c.sequence.desc()).limit(limit)
        rows = self._link.read(lambda c: c.execute(query).all())
        return [_decision(row) for row in reversed(rows)]

    def head(self, model: str) -> tuple[int, str]:
        """Number and hash of the newest entry, kept beside the log; 0 when there is none."""
        query = sa.select(HEADS.c.sequence, HEADS.c.hash).where(HEADS.c.model == model)
        row = self._link.read(lambda c: c.execute(query).one_or_none())
        return (0, FIRST) if row is None else (row.sequence, row.hash)

    def models(self) -> list[str]:
        """Models that anything was decided on, by name."""
        query = sa.select(HEADS.c.model).order_by(HEADS.c.model)
        return list(self._link.read(lambda c: c.execute(query).scalars().all()))

    def _lock_head(self, connection: sa.Connection, model: str) -> tuple[int, str]:
        fresh = {"model": model, "sequence": 0, "hash": FIRST}
        connection.execute(self._insert_new(HEADS, fresh))
        query = sa.select(HEADS.c.sequence, HEADS.c.hash).where(HEADS.c.model == model)
        row = connection.execute(query.with_for_update()).one()
        return row.sequence, row.hash

    def _put(self, connection: sa.Connection, put: Put, now: datetime) -> None:
        if put.expected == 0:
            row = {"kind": put.kind.value, "model": put.model, "key": put.key}
            values = row | {"text": put.text, "revision": 1, "changed_at": now}
            statement = self._insert_new(DOCUMENTS, values).returning(DOCUMENTS.c.revision)
            written = connection.execute(statement).first() is not None
        else:
            where = sa.and_(_is(put.kind, put.model, put.key), DOCUMENTS.c.revision == put.expected)
            change = {"text": put.text, "revision": put.expected + 1, "changed_at": now}
            written = (
                connection.execute(sa.update(DOCUMENTS).where(where).values(change)).rowcount == 1
            )
        if not written:
            raise ConflictError(
                f"The {put.kind.value} {put.key!r} of {put.model} must be at revision "
                f"{put.expected}. Got another: somebody changed it meanwhile."
            )

    def _insert_new(self, table: sa.Table, values: dict[str, Any]) -> sa.Insert:
        if self._link.dialect == "postgresql":
            return postgresql.insert(table).values(values).on_conflict_do_nothing()
        return sqlite.insert(table).values(values).on_conflict_do_nothing()


def _is(kind: StateKind, model: str, key: str) -> sa.ColumnElement[bool]:
    columns = DOCUMENTS.c
    return sa.and_(columns.kind == kind.value, columns.model == model, columns.key == key)


def _append(
    connection: sa.Connection, entry: DecisionEntry, heads: dict[str, tuple[int, str]]
) -> Decision:
    if entry.key is not None:
        same = sa.and_(DECISIONS.c.model == entry.model, DECISIONS.c.key == entry.key)
        row = connection.execute(sa.select(DECISIONS).where(same)).one_or_none()
        if row is not None:
            return _decision(row)
    sequence, previous = heads[entry.model]
    decision = seal(entry, sequence + 1, previous)
    fields = decision.model_dump()
    evidence = json.dumps(decision.evidence, sort_keys=True, ensure_ascii=False)
    connection.execute(
        sa.insert(DECISIONS).values({**fields, "kind": entry.kind.value, "evidence": evidence})
    )
    heads[entry.model] = (decision.sequence, decision.hash)
    return decision


def _storable(entry: DecisionEntry) -> DecisionEntry:
    """The entry as it comes back: what is sealed must be what is read again."""
    if entry.at.tzinfo is None:
        raise UsageError(f"A decision's time must have a zone. Got {entry.at.isoformat()}.")
    text = entry.model_copy(update={"at": entry.at.astimezone(UTC)}).to_json()
    # PostgreSQL keeps no NUL in a text.
    return DecisionEntry.from_json(_NUL.sub("\\1\ufffd", text))


def _kept(row: sa.Row[Any]) -> Kept:
    return Kept(StateKind(row.kind), row.model, row.key, row.text, row.revision, row.changed_at)


def _decision(row: sa.Row[Any]) -> Decision:
    fields = dict(row._mapping)
    try:
        return Decision.model_validate({**fields, "evidence": json.loads(fields["evidence"])})
    except ValueError as error:
        raise DataFault(
            f"Entry {row.sequence} of {row.model}'s log must be what was written. "
            f"Got one that cannot be read: it was changed by somebody else."
        ) from error
