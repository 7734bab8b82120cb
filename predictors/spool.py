"""The spool: every answered request on local disk before its answer leaves.

`append` is one write(2) on an append-only file and never raises for a disk that is full, gone or
read-only: predictions matter more than their log, so losses are counted and serving goes on. A
thread of its own syncs in groups, so a killed process loses nothing and a dead machine loses at
most one interval. A consumer that needs exactly-once ships sequence numbers up to
`synced_sequence` only, since a machine that loses power may use later ones again.
"""

import logging
import os
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from heliotrope.domain.serving import ServingContract
from heliotrope.domain.spool_format import (
    Record,
    Seal,
    SegmentHeader,
    encode_header,
    encode_record,
    encode_seal,
)
from heliotrope.errors import ConflictError, UsageError
from heliotrope.service.shipping import shipped_sequence
from heliotrope.vocabulary import Role
from predictors.segments import Segment, recover, segment_path, spool_id, take_lock
from predictors.waiting import WaitingMarks

logger = logging.getLogger("heliotrope.spool")

SEGMENTS = 8
"""The budget is kept in about this many files, so dropping the oldest loses an eighth of it."""
COMPLAIN_SECONDS = 60.0


@dataclass(frozen=True)
class SpoolOptions:
    """Where the spool is and what it may use."""

    folder: Path
    max_bytes: int
    sync_seconds: float
    sync_bytes: int


class Spool:
    """Appends records to segments within a disk budget.

    Only one thread appends; the syncing thread is the spool's own. `lost` counts rows by reason:
    `budget` (the oldest were dropped), `write` (the disk refused), `deleted` (files vanished).

    Raises:
        ConflictError: another process writes this folder.
        UsageError: the budget cannot hold even a few records of this model.
    """

    def __init__(
        self, options: SpoolOptions, contract: ServingContract, version: str, role: Role
    ) -> None:
        self.options = options
        self.lost: Counter[str] = Counter(budget=0, write=0, deleted=0)
        self.torn_bytes = 0
        self.damaged_bytes = 0
        self.synced_sequence = 0
        self.segments: deque[Segment] = deque()
        """Complete ones, oldest first."""
        self.current: Segment | None = None
        self.id: str | None = None
        self._header = SegmentHeader(
            spool="00000000-0000-0000-0000-000000000000",
            first_sequence=0,
            model=contract.model,
            version=version,
            role=role,
            task=contract.task,
            features=contract.features,
            classes=contract.classes,
            entity_key=contract.entity_key,
        )
        self._header_bytes = len(encode_header(self._header)) + 20
        self._check_budget()
        self._segment_bytes = max(options.max_bytes // SEGMENTS, 2 * self._header_bytes)
        self._next = 1
        self._fd = self._lock_fd = -1
        self._unsynced = self._closed_bytes = 0
        self._retired: deque[int] = deque()
        self._marks = WaitingMarks()
        self._mutex = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._complained_at = -COMPLAIN_SECONDS
        with self._mutex:
            self._try_open()
        self._thread = threading.Thread(target=self._keep_synced, name="spool-sync", daemon=True)
        self._thread.start()

    def _check_budget(self) -> None:
        least = 4 * SEGMENTS * self._header_bytes
        if self.options.max_bytes < least:
            must = f"spool_max_bytes must be at least {least} for this model."
            raise UsageError(f"{must} Got {self.options.max_bytes}.")

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(s.size for s in list(self.segments)) + (self.current.size if self.current else 0)

    @property
    def rows(self) -> int:
        """Rows on disk."""
        return sum(s.rows for s in list(self.segments)) + (self.current.rows if self.current else 0)

    @property
    def writable(self) -> bool:
        """Whether there is a file to append to."""
        return self._fd >= 0

    @property
    def oldest_at(self) -> float | None:
        """When the oldest record that no collector has acknowledged was written, in seconds since
        1970; None where none waits."""
        kept = [s for s in (*self.segments, self.current) if s is not None and s.records]
        if not kept:
            return None
        shipped = max(self._shipped_sequence(), kept[0].first_sequence - 1)
        if shipped >= kept[-1].last_sequence:
            return None
        # Behind the last mark is what was written since the last sync.
        return self._marks.oldest(shipped) or time.time()

    def append(
        self,
        request_id: str,
        protocol: str,
        features: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
        predictions: npt.NDArray[np.uint16] | None,
        entity_keys: list[str | None] | None,
        predicted_at_ns: int,
        latency_ns: int,
    ) -> None:
        """Write one request down, or count its rows as lost."""
        with self._mutex:
            record = Record(
                self._next,
                predicted_at_ns,
                latency_ns,
                request_id,
                protocol,
                features,
                scores,
                predictions,
                entity_keys,
            )
            data = encode_record(record)
            try:
                current = self._room_for(len(data))
                if current is None:
                    self.lost["write"] += record.rows
                    return
                self._write(data, current)
            except OSError as error:
                self.lost["write"] += record.rows
                self._complain("cannot write", error)
                return
            current.records += 1
            current.rows += record.rows
            current.last_sequence = self._next
            self._next += 1
            self._unsynced += len(data)
            if self._unsynced >= self.options.sync_bytes:
                self._wake.set()

    def change_role(self, role: Role) -> None:
        """Give what is appended from now on another role; what is written keeps its own.

        A reader takes the role from a segment's header, so the next record begins a segment, or,
        where the current one has no record yet, stands behind a second header.

        Raises:
            OSError: the disk refuses; records still get the old role.
        """
        with self._mutex:
            before, current = self._header, self.current
            self._header = before.model_copy(update={"role": role})
            try:
                if current is not None and current.records:
                    self._rotate(current)
                elif current is not None:
                    again = {"spool": self.id, "first_sequence": self._next}
                    self._write(encode_header(self._header.model_copy(update=again)), current)
            except OSError:
                self._header = before
                raise

    def _write(self, data: bytes, current: Segment) -> None:
        written = os.write(self._fd, data)
        if written != len(data):
            os.ftruncate(self._fd, current.size)
            raise OSError(28, "only a part of the record fitted")
        current.size += written

    def _room_for(self, size: int) -> Segment | None:
        current = self.current
        if current is None:
            return None
        if self._header_bytes + size > self.options.max_bytes:
            raise OSError(27, f"one record of {size} bytes exceeds spool_max_bytes")
        if current.records and current.size + size > self._segment_bytes:
            current = self._rotate(current)
        while self.segments and self._closed_bytes + current.size + size > self.options.max_bytes:
            oldest = self.segments.popleft()
            self._closed_bytes -= oldest.size
            if oldest.last_sequence > self._shipped_sequence():
                self.lost["budget"] += oldest.rows
            oldest.path.unlink(missing_ok=True)
        return current

    def _rotate(self, full: Segment) -> Segment:
        old = self._fd
        fresh = self._begin()
        self._seal(old, full)
        self._retired.append(old)
        self.segments.append(full)
        self._closed_bytes += full.size
        self._wake.set()
        return fresh

    def _begin(self) -> Segment:
        """Open a segment and write its header; on failure nothing has changed."""
        path = segment_path(self.options.folder, self._next)
        header = encode_header(
            self._header.model_copy(update={"spool": self.id, "first_sequence": self._next})
        )
        # What is there already is the header of a process that wrote no record: a reader that has
        # it reads on behind it, and must find this process's there before any record.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        before = os.fstat(fd).st_size
        if os.write(fd, header) != len(header):
            os.ftruncate(fd, before)
            os.close(fd)
            raise OSError(28, "only a part of the header fitted")
        self._fd = fd
        size = before + len(header)
        self.current = Segment(path, self._next, size, 0, 0, self._next - 1, time.time())
        return self.current

    def _seal(self, fd: int, segment: Segment) -> None:
        seal = encode_seal(Seal(segment.records, segment.rows, segment.last_sequence))
        try:
            segment.size += os.write(fd, seal)
        except OSError as error:
            self._complain(
                "cannot seal a segment; it will be read through at the next start", error
            )

    def _try_open(self) -> None:
        """Open the folder, taking over what is there; a disk that refuses is tried again later."""
        folder = self.options.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = take_lock(folder)
        except OSError as error:
            self._complain("cannot open the folder", error)
            return
        try:
            self.id = spool_id(folder, self.id)
            found = recover(folder)
            self.segments = deque(found.segments)
            self._closed_bytes = sum(s.size for s in self.segments)
            for one in found.segments:
                self._marks.note(one.last_sequence, one.began_at)
            # A shipper deletes what was acknowledged, and its numbers must not be used again.
            shipped = self._shipped_sequence()
            self._next = max(self._next, found.next_sequence, shipped + 1)
            self.torn_bytes += found.torn_bytes
            self.damaged_bytes += found.damaged_bytes
            self._begin()
            self._lock_fd = lock
        except OSError as error:
            os.close(lock)
            self._complain("cannot open the folder", error)

    def _complain(self, what: str, error: OSError) -> None:
        now = time.monotonic()
        if now - self._complained_at >= COMPLAIN_SECONDS:
            self._complained_at = now
            logger.error(
                "The spool %s must be writable: %s (%s). Predictions go on; %d rows lost so far.",
                self.options.folder,
                what,
                error.strerror,
                self.lost.total(),
            )

    def _keep_synced(self) -> None:
        while not self._stopping:
            self._wake.wait(self.options.sync_seconds)
            self._wake.clear()
            self._sync()
            with self._mutex:
                self._look_after_files()

    def _sync(self) -> None:
        with self._mutex:
            retired, fd = list(self._retired), self._fd
            self._retired.clear()
            last, self._unsynced = self._next - 1, 0
        try:
            for old in retired:
                os.fsync(old)
            if fd >= 0:
                os.fsync(fd)
                self.synced_sequence = last
                self._marks.note(last, time.time())
                if self._marks.waiting:
                    self._marks.forget(self._shipped_sequence())
        except OSError as error:
            self._complain("cannot sync", error)
        for old in retired:
            os.close(old)

    def _look_after_files(self) -> None:
        """Notice files that were deleted under us, and open the folder when it is back."""
        if self.current is not None and not self._in_place(self.current.path):
            self._forget_deleted()
            self.lost["deleted"] += 0 if self.current.path.exists() else self.current.rows
            self._abandon()
        elif self.segments:
            self._forget_deleted()
        if self._fd < 0 and not self._stopping:
            try:
                self._try_open()
            except ConflictError as error:
                self._complain(str(error), OSError(11, "it is locked"))

    def _forget_deleted(self) -> None:
        """Closed segments that are gone: shipped, or lost."""
        gone = [s for s in self.segments if not s.path.exists()]
        if not gone:
            return
        shipped = self._shipped_sequence()
        self.lost["deleted"] += sum(s.rows for s in gone if s.last_sequence > shipped)
        self._closed_bytes -= sum(s.size for s in gone)
        self.segments = deque(s for s in self.segments if s not in gone)

    def _shipped_sequence(self) -> int:
        return shipped_sequence(self.options.folder, self.id) if self.id else 0

    def _in_place(self, path: Path) -> bool:
        try:
            return path.stat().st_ino == os.fstat(self._fd).st_ino
        except OSError:
            return False

    def _abandon(self) -> None:
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1
        self.current = None
        self.segments.clear()
        self._closed_bytes = 0

    def close(self) -> None:
        """Seal, sync and unlock; nothing can be appended afterwards."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        with self._mutex:
            if self.current is not None and self.current.records:
                self._seal(self._fd, self.current)
        self._sync()
        with self._mutex:
            self._abandon()
