"""Upkeep of the event tables: compaction, retention, checkpoints, log clean-up, vacuum.

Any collector may do it at any time, beside writers and readers. Appends and compaction commute;
of two collectors that compact one table, delta-rs lets one win and the other gives up. A lock on a
local store only saves that work. Files are deleted once no version within the table's log
retention (`TablePolicy.log_hours`) needs them, so a reader at work is never pulled from under.
"""

import fcntl
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from heliotrope.adapters import object_store
from heliotrope.adapters.delta_tables import LostRace, lost_races, open_table, store_errors
from heliotrope.adapters.event_store import KINDS, DeltaEventStore
from heliotrope.errors import UnavailableError
from heliotrope.telemetry import collector_metrics as metrics
from heliotrope.telemetry.board import Board

logger = logging.getLogger("heliotrope.upkeep")
LOCK_FILE = "upkeep.lock"


@dataclass(frozen=True)
class UpkeepPolicy:
    """What is done, and how often."""

    small_files: int = 32
    """A table is compacted once it has this many files below the small size; each file makes
    every commit a tenth of a millisecond slower."""
    small_bytes: int = 8 << 20
    """Files below are merged, up to this size, at every round."""
    large_bytes: int = 128 << 20
    """Files below are merged, up to this size, once an hour."""
    deep_seconds: float = 3600.0
    """Between two rounds that also merge to large files, drop old days and vacuum."""
    keep_days: int | None = None
    """Days of events kept; all where it is None."""


class EventUpkeep:
    """Looks after all tables of a store; `run` is called on a schedule, by one thread."""

    def __init__(
        self,
        store: DeltaEventStore,
        root: str,
        policy: UpkeepPolicy,
        counts: Board,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store, self._policy, self._counts, self._now = store, policy, counts, now
        self._lock_at = None if object_store.is_remote(root) else Path(root) / LOCK_FILE
        self._deep_at = time.monotonic() + policy.deep_seconds

    def run(self, *, deep: bool | None = None) -> None:
        """One round over all tables; what fails is logged and counted, and tried next time.

        Args:
            deep: whether to merge to large files, drop old days and vacuum; by the clock if None.
        """
        if deep is None:
            deep = time.monotonic() >= self._deep_at
        if deep:
            self._deep_at = time.monotonic() + self._policy.deep_seconds
        with self._alone() as alone:
            if not alone:
                return
            try:
                models = self._store.models()
            except UnavailableError as error:
                logger.warning("Upkeep needs a store that answers: %s", error)
                return
            for model in models:
                for kind in KINDS:
                    self._round(kind, model, deep)

    def _round(self, kind: str, model: str, deep: bool) -> None:
        uri = self._store.table_uri(kind, model)
        try:
            with store_errors(uri), lost_races(uri):
                table = open_table(uri)
                if table is None:
                    return
                worked = self._compact(table, deep)
                if deep:
                    self._drop_old_days(table)
                    table.create_checkpoint()
                    table.cleanup_metadata()
                    table.vacuum(dry_run=False, full=True)
        except LostRace:
            self._counts.add(metrics.UPKEEP, kind, "lost")
        except UnavailableError as error:
            logger.warning("Upkeep of %s/%s is put off: %s", kind, model, error)
            self._counts.add(metrics.UPKEEP, kind, "failed")
        else:
            if worked or deep:
                self._counts.add(metrics.UPKEEP, kind, "done")

    def _compact(self, table: Any, deep: bool) -> bool:
        target = self._policy.large_bytes if deep else self._policy.small_bytes
        sizes = table.get_add_actions(flatten=True).column("size_bytes").to_pylist()
        small = sum(1 for size in sizes if size < target)
        if small < (2 if deep else self._policy.small_files):
            return False
        done = table.optimize.compact(target_size=target, max_concurrent_tasks=1)
        return bool(done["numFilesRemoved"])

    def _drop_old_days(self, table: Any) -> None:
        if self._policy.keep_days is None:
            return
        oldest = (self._now() - timedelta(days=self._policy.keep_days)).date()
        table.delete(f"day < '{oldest.isoformat()}'")

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other collector on this machine is at it."""
        if self._lock_at is None:
            yield True
            return
        try:
            self._lock_at.parent.mkdir(parents=True, exist_ok=True)
            file = self._lock_at.open("w")
        except OSError as error:
            logger.warning("Upkeep needs to write %s: %s", self._lock_at, error.strerror)
            yield False
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
