"""An append-only Delta table as collectors use it: creation, exactly-once appends, upkeep.

Exactly once rests on Delta's application transactions: a commit says "spool S is now at 42", and
delta-rs fails it when another commit said anything of S since the version this one was made from
(a ConcurrentTransactionException of the protocol). Appends that say nothing of the same
application commute, so any number of collectors write one table.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from heliotrope.adapters import object_store
from heliotrope.errors import HeliotropeError, UnavailableError

STALE_SECONDS = 30.0
"""A handle is brought up to date at least this often while it writes, so that it is never so old
that the log behind it was cleaned away."""
COMMIT_RETRIES = 15


@dataclass(frozen=True)
class TablePolicy:
    """How long a table keeps what nobody needs to read any more."""

    checkpoint_commits: int = 100
    log_hours: int = 6
    """A reader may hold a version of the table for at least this long, in which its log and its
    files stay."""
    transaction_days: int = 90
    """How long a silent spool's position is remembered, at least."""

    def configuration(self, stats: tuple[str, ...]) -> dict[str, str]:
        """Delta's table properties."""
        return {
            "delta.checkpointInterval": str(self.checkpoint_commits),
            "delta.logRetentionDuration": f"interval {self.log_hours} hours",
            "delta.deletedFileRetentionDuration": f"interval {self.log_hours} hours",
            "delta.setTransactionRetentionDuration": f"interval {self.transaction_days} days",
            "delta.dataSkippingStatsColumns": ",".join(stats),
        }


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn what delta-rs raises for a store that does not take writes into UnavailableError."""
    from deltalake.exceptions import DeltaError

    try:
        with object_store.object_errors(uri):
            yield
    except (HeliotropeError, LostRace):
        raise
    except (DeltaError, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise UnavailableError(f"{uri} must take writes and reads. {first}") from error


class LostRace(Exception):
    """Another writer's commit went first and this one cannot follow it."""


@contextmanager
def lost_races(uri: str) -> Iterator[None]:
    """Turn delta-rs's failed commit into LostRace."""
    from deltalake.exceptions import CommitFailedError

    try:
        yield
    except CommitFailedError as error:
        raise LostRace(f"{uri}: {error}") from error


@dataclass
class EventTable:
    """One table and what is known of it at `version`; for one thread at a time."""

    uri: str
    schema: Any
    """Arrow schema it is created with, when it is not there."""
    stats: tuple[str, ...]
    """Columns whose bounds a file carries; each commit costs in proportion to them."""
    policy: TablePolicy = field(default_factory=TablePolicy)
    properties: Mapping[str, str] = field(default_factory=dict)
    """Properties of our own, set when it is created."""
    _table: Any = None
    _fresh_at: float = 0.0
    _positions: dict[str, int | None] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """Arrow types by column."""
        return {f.name: f.type for f in self.arrow_schema()}

    def arrow_schema(self) -> Any:
        """The table's schema as Arrow's, without view types."""
        import pyarrow as pa

        return pa.schema(self._open().schema().to_arrow(as_large_types=False))

    def position(self, application: str) -> int | None:
        """The last transaction of an application, at this handle's version."""
        if application not in self._positions:
            with store_errors(self.uri):
                self._positions[application] = self._open().transaction_version(application)
        return self._positions[application]

    def refresh(self) -> None:
        """Take the table's newest version, forgetting positions if anybody else wrote."""
        with store_errors(self.uri):
            table = self._open()
            before = table.version()
            table.update_incremental()
            if table.version() != before:
                self._positions.clear()
            self._fresh_at = time.monotonic()

    def append(self, rows: Any, transactions: Mapping[str, int]) -> bool:
        """Append rows and move applications, in one commit.

        Answers False, and nothing is written, when somebody else moved one of the applications
        or changed the table since it was last read: look again, and decide again.

        Raises:
            UnavailableError: the store does not take it; whether it did is not known.
        """
        from deltalake import CommitProperties, Transaction, WriterProperties, write_deltalake

        table = self._open()
        before = table.version()
        if time.monotonic() - self._fresh_at > STALE_SECONDS:
            self.refresh()
            # What the caller decided by was read at another version, and only what happened since
            # the handle's own is checked by the commit.
            if table.version() != before:
                return False
        known = self.columns()
        grows = any(name not in known for name in rows.column_names)
        try:
            with store_errors(self.uri), lost_races(self.uri):
                write_deltalake(
                    table,
                    rows,
                    mode="append",
                    schema_mode="merge" if grows else None,
                    writer_properties=WriterProperties(compression="ZSTD", compression_level=1),
                    commit_properties=CommitProperties(
                        app_transactions=[Transaction(a, v) for a, v in transactions.items()],
                        max_commit_retries=COMMIT_RETRIES,
                    ),
                )
        except LostRace:
            self.forget()
            return False
        except HeliotropeError:
            self.forget()
            raise
        if table.version() == before + 1:
            self._positions.update(transactions)
        else:
            # Commits of others came in with ours, and may have moved the same applications.
            self._positions.clear()
        self._fresh_at = time.monotonic()
        return True

    def forget(self) -> None:
        """Drop the handle; the next use opens the newest version."""
        self._table = None
        self._positions.clear()

    def _open(self) -> Any:
        if self._table is None:
            with store_errors(self.uri):
                self._table = self._opened_or_created()
            self._fresh_at = time.monotonic()
        return self._table

    def _opened_or_created(self) -> Any:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        existing = open_table(self.uri)
        if existing is not None:
            return existing
        options = object_store.storage_options(self.uri)
        try:
            DeltaTable.create(
                self.uri,
                schema=self.schema,
                mode="ignore",
                partition_by=["day"],
                configuration={**self.policy.configuration(self.stats), **self.properties},
                storage_options=options,
                raise_if_key_not_exists=False,
            )
        except Exception as error:
            # Another collector may have created it in between; what it made is as good.
            made = open_table(self.uri)
            if made is None:
                raise error
            return made
        found = open_table(self.uri)
        if found is None:
            raise TableNotFoundError(self.uri)
        return found


def open_table(uri: str) -> Any:
    """The newest version of a table, or None where there is none."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(uri, storage_options=object_store.storage_options(uri))
    except TableNotFoundError:
        return None
