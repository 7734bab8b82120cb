"""The files of a spool folder: named by first sequence number, mended after a crash."""

import fcntl
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from heliotrope.domain.spool_format import (
    SEAL_BYTES,
    Kind,
    Seal,
    decode_record,
    decode_seal,
    encode_seal,
    scan,
)
from heliotrope.errors import ConflictError
from heliotrope.service.spool_reading import SUFFIX, segment_files

LOCK_FILE = "lock"
ID_FILE = "spool-id"


@dataclass
class Segment:
    """One file of the spool, and how much it holds."""

    path: Path
    first_sequence: int
    size: int
    records: int
    rows: int
    last_sequence: int
    """Below `first_sequence` while it is empty."""
    began_at: float
    """Seconds since 1970; of a segment found at start, its last change."""


@dataclass(frozen=True)
class Recovered:
    """What was found in a folder at start."""

    segments: list[Segment]
    next_sequence: int
    torn_bytes: int
    """Cut from the last segment: what a killed process was writing."""
    damaged_bytes: int


def segment_path(folder: Path, first_sequence: int) -> Path:
    """The file whose first record has this sequence number; names sort as numbers do."""
    return folder / f"{first_sequence:020d}{SUFFIX}"


def take_lock(folder: Path) -> int:
    """Lock the folder against a second writer; the descriptor holds the lock until it is closed.

    Raises:
        ConflictError: another process writes here.
        OSError: the folder cannot be written.
    """
    lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise ConflictError(
            f"The spool folder must have one writer. Another process holds {folder / LOCK_FILE}."
        ) from error
    except OSError:
        os.close(lock)
        raise
    return lock


def spool_id(folder: Path, fresh: str | None = None) -> str:
    """The folder's id, made on first use; `fresh` is used instead of a new one.

    An id file that cannot be read as one is replaced, since a reader tells spools apart by it.
    """
    path = folder / ID_FILE
    try:
        return str(uuid.UUID(path.read_text().strip()))
    except (FileNotFoundError, ValueError):
        made = fresh or str(uuid.uuid4())
        temporary = path.with_suffix(".new")
        temporary.write_text(made + "\n")
        temporary.replace(path)
        return made


def recover(folder: Path) -> Recovered:
    """Find what an earlier process left, cut a torn tail, and say where the sequence goes on.

    Numbers that damaged bytes may have held are never used again.
    """
    files = segment_files(folder)
    segments: list[Segment] = []
    following, torn, damaged = 1, 0, 0
    for path in files:
        last = path is files[-1]
        segment = None if last else _sealed(path)
        if segment is None:
            segment, cut, bad = _scanned(path, mend=last)
            torn, damaged = torn + cut, damaged + bad
            following = max(following, segment.last_sequence + 1 + bad)
        following = max(following, segment.first_sequence, segment.last_sequence + 1)
        if segment.records or damaged:
            segments.append(segment)
        elif last:
            # Its name is used again. A reader may hold its header: the next one goes behind it.
            os.truncate(path, segment.size - cut)
        else:
            path.unlink()
    return Recovered(segments, following, torn, damaged)


def _sealed(path: Path) -> Segment | None:
    stat = path.stat()
    with path.open("rb") as file:
        file.seek(max(0, stat.st_size - SEAL_BYTES))
        items = list(scan(file.read()))
    if len(items) != 1 or items[0].payload is None:
        return None
    try:
        seal = decode_seal(items[0].payload)
    except ValueError:
        return None
    first = int(path.stem)
    return Segment(
        path, first, stat.st_size, seal.records, seal.rows, seal.last_sequence, stat.st_mtime
    )


def _scanned(path: Path, mend: bool) -> tuple[Segment, int, int]:
    data = path.read_bytes()
    first = int(path.stem)
    segment = Segment(path, first, len(data), 0, 0, first - 1, path.stat().st_mtime)
    end, damaged, sealed = 0, 0, False
    for item in scan(data):
        end = item.end
        if item.payload is None:
            damaged += item.end - item.start
        elif item.payload[0] == Kind.RECORD:
            try:
                record = decode_record(item.payload)
            except ValueError:
                damaged += item.end - item.start
                continue
            segment.records += 1
            segment.rows += record.rows
            segment.last_sequence = record.sequence
        sealed = item.payload is not None and item.payload[0] == Kind.SEAL
    torn = len(data) - end
    if mend and not sealed and segment.records:
        seal = encode_seal(Seal(segment.records, segment.rows, segment.last_sequence))
        with path.open("r+b") as file:
            file.truncate(end)
            file.seek(end)
            file.write(seal)
        segment.size = end + len(seal)
    return segment, torn, damaged
