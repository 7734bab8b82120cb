"""Shipping a spool: read what the predictor wrote, send it, remember what was acknowledged.

The shipper shares nothing with the predictor but the folder. It sends frames as they are on disk,
one batch at a time, and deletes a segment once all of it was acknowledged and a newer one exists
(the newest holds the place where sequence numbers go on). It may be killed anywhere: what was sent
and not noted is sent again, and the collector knows it by its sequence numbers.
"""

import json
import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from heliotrope.domain.spool_format import _RECORD as RECORD_HEAD
from heliotrope.domain.spool_format import FRAME, PAYLOAD_MAX, Kind, decode_header, scan
from heliotrope.errors import UnavailableError
from heliotrope.service.spool_reading import segment_files

logger = logging.getLogger("heliotrope.shipper")

STATE_FILE = "shipped.json"
QUARANTINE = "quarantine"
_TOO_MUCH = frozenset({400, 413, 422})


@dataclass(frozen=True)
class Answered:
    """What the collector said to a batch."""

    status: int
    watermark: int | None = None
    """Of 200 and 409: what the store has."""
    retry_after: float | None = None
    error: str = ""


SendBatch = Callable[[bytes, int, str], Answered]
"""Body, what it follows, why records are missing; UnavailableError when there is no answer."""


@dataclass(frozen=True)
class ShipOptions:
    """How a shipper behaves; seconds and bytes."""

    batch_bytes: int = 4 << 20
    idle_seconds: float = 0.2
    """Between two looks at a spool with nothing new."""
    first_pause: float = 0.2
    longest_pause: float = 10.0
    quarantine_files: int = 1000
    """Beyond it, refused records are only counted."""


@dataclass
class ShipState:
    """What survives a restart; losing it costs sending again, nothing else."""

    spool: str = ""
    sequence: int = 0
    """Acknowledged up to here."""
    records: int = 0
    """Acknowledged in all."""
    quarantined: int = 0
    damaged_bytes: int = 0
    error: str = ""
    """The last thing that went wrong, empty when the last batch was acknowledged."""

    @classmethod
    def load(cls, path: Path) -> "ShipState":
        """Read it; a new one where there is none or it is damaged."""
        try:
            said = json.loads(path.read_bytes())
            return cls(**{name: type(getattr(cls(), name))(said[name]) for name in said})
        except (OSError, ValueError, TypeError, AttributeError):
            return cls()

    def save(self, path: Path) -> None:
        """Replace the file in one step."""
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(self.__dict__))
        temporary.replace(path)


@dataclass
class _Batch:
    """Frames of one segment that were not acknowledged yet."""

    header: bytes = b""
    frames: list[bytes] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)


class SpoolShipper:
    """Ships one spool folder; `step` does one thing and says how long to rest.

    Args:
        folder: the predictor's spool.
        send: delivers a batch.
        options: sizes and pauses.
        rng: spreads pauses, so that many shippers do not come back at once.
    """

    def __init__(
        self, folder: Path, send: SendBatch, options: ShipOptions, rng: random.Random
    ) -> None:
        self.folder, self._send, self._options, self._rng = folder, send, options, rng
        self.state = ShipState.load(folder / STATE_FILE)
        self._segment: Path | None = None
        self._offset = 0
        self._header = b""
        self._spool = ""
        self._reason = "budget"
        self._most = 1 << 30
        """Records in a batch; fewer while a refused one is being looked for."""
        self._failures = 0
        self._chunk = options.batch_bytes

    def step(self) -> float:
        """Send one batch, or skip what is acknowledged; answers seconds until there may be more."""
        try:
            return self._step()
        except UnavailableError as error:
            return self._back_off(str(error), None)
        except OSError as error:
            return self._back_off(f"the spool folder must be readable: {error}", None)

    def _step(self) -> float:
        files = segment_files(self.folder)
        if not files:
            return self._options.idle_seconds
        segment = self._current(files)
        newest = segment == files[-1]
        try:
            batch, end, more = self._read(segment)
        except FileNotFoundError:
            # The predictor dropped it to keep its budget.
            self._segment = None
            return 0.0
        if batch.frames:
            return self._ship(batch)
        self._offset = end
        if more:
            return 0.0
        if newest:
            return self._options.idle_seconds
        self._leave(segment, files)
        return 0.0

    def _current(self, files: list[Path]) -> Path:
        """The segment being read, or the one that holds what follows the acknowledged."""
        if self._segment is not None and self._segment in files:
            return self._segment
        self._know_spool(files[0])
        passed = [f for f in files[1:] if int(f.stem) <= self.state.sequence + 1]
        chosen = passed[-1] if passed and self._header else files[0]
        for done in files[: files.index(chosen)]:
            done.unlink(missing_ok=True)
        self._go_to(chosen)
        return chosen

    def _go_to(self, segment: Path | None) -> None:
        self._segment, self._offset, self._header = segment, 0, b""
        self._chunk = self._options.batch_bytes

    def _leave(self, segment: Path, files: list[Path]) -> None:
        """Everything in it is acknowledged, damaged or set aside."""
        self._go_to(files[files.index(segment) + 1])
        segment.unlink(missing_ok=True)

    def _read(self, segment: Path) -> tuple[_Batch, int, bool]:
        """Frames behind the acknowledged, where the read ended, and whether the file goes on.

        What is sent is on the disk first: after a power loss the predictor must not use the
        sequence numbers of something that was shipped again.
        """
        with segment.open("rb") as file:
            file.seek(self._offset)
            data = file.read(self._chunk)
            more = len(data) == self._chunk
            batch, end = self._frames(data, more)
            if batch.frames:
                os.fsync(file.fileno())
        if more and end == self._offset and self._chunk < PAYLOAD_MAX:
            self._chunk *= 2
        return batch, end, more and (end > self._offset or self._chunk < PAYLOAD_MAX)

    def _frames(self, data: bytes, more: bool) -> tuple[_Batch, int]:
        batch, start, end = _Batch(), self._offset, self._offset
        for item in scan(data):
            payload = item.payload
            if payload is None:
                if batch.frames or (more and item.end == len(data)):
                    # Where damage ends is known only once what follows it was read.
                    break
                self._damaged(item.end - item.start)
            elif payload[0] == Kind.HEADER:
                self._take_header(data[item.start : item.end], payload)
            elif payload[0] == Kind.RECORD and len(payload) >= RECORD_HEAD.size and self._header:
                sequence = RECORD_HEAD.unpack_from(payload)[6]
                if sequence > self.state.sequence:
                    batch.frames.append(data[item.start : item.end])
                    batch.ends.append(start + item.end)
                    batch.sequences.append(sequence)
            end = start + item.end
            if not batch.frames:
                self._offset = end
            if len(batch.frames) >= self._most:
                break
        batch.header = self._header
        return batch, end

    def _damaged(self, size: int) -> None:
        self._reason = "damaged"
        self.state.damaged_bytes += size

    def _know_spool(self, oldest: Path) -> None:
        """Forget what was acknowledged of another spool before anything is deleted by it."""
        with oldest.open("rb") as file:
            head = file.read(FRAME.size)
            size = FRAME.unpack(head)[1] if len(head) == FRAME.size else 0
            data = head + file.read(min(size, PAYLOAD_MAX))
        first = next(iter(scan(data)), None)
        if first is not None and first.payload is not None and first.payload[0] == Kind.HEADER:
            self._take_header(data, first.payload)

    def _take_header(self, frame: bytes, payload: bytes) -> None:
        try:
            spool = decode_header(payload).spool
        except ValueError:
            self._damaged(len(frame))
            return
        self._header = frame
        if spool != self.state.spool:
            self.state = ShipState(
                spool=spool,
                quarantined=self.state.quarantined,
                damaged_bytes=self.state.damaged_bytes,
            )

    def _ship(self, batch: _Batch) -> float:
        body = batch.header + b"".join(batch.frames)
        answer = self._send(body, self.state.sequence, self._reason)
        if answer.status == 200 and answer.watermark is not None:
            return self._acknowledged(batch, answer.watermark)
        if answer.status == 409 and answer.watermark is not None:
            return self._rewind(answer.watermark)
        if answer.status in _TOO_MUCH:
            return self._narrow(batch, answer)
        return self._back_off(f"HTTP {answer.status}: {answer.error}", answer.retry_after)

    def _acknowledged(self, batch: _Batch, watermark: int) -> float:
        self._offset = batch.ends[-1]
        self._chunk = self._options.batch_bytes
        self.state.sequence = max(watermark, batch.sequences[-1])
        self.state.records += len(batch.frames)
        self.state.error = ""
        self.state.save(self.folder / STATE_FILE)
        self._failures, self._reason = 0, "budget"
        self._most = min(self._most * 2, 1 << 30)
        return 0.0

    def _rewind(self, watermark: int) -> float:
        """The store has less than was acknowledged (another store, or an older copy of it)."""
        logger.warning(
            "The collector must hold what it acknowledged, up to %d. It holds %d; what is still "
            "on disk is sent again.",
            self.state.sequence,
            watermark,
        )
        self.state.sequence = watermark
        self._reason = "elsewhere"
        self._go_to(None)
        self._failures += 1
        return self._pause() if self._failures > 1 else 0.0

    def _narrow(self, batch: _Batch, answer: Answered) -> float:
        """Find the record the collector will never take, set it aside, and go on."""
        if len(batch.frames) > 1:
            self._most = len(batch.frames) // 2
            return 0.0
        folder = self.folder / QUARANTINE
        folder.mkdir(exist_ok=True)
        path = folder / f"{batch.sequences[0]:020d}.spool"
        if not path.exists():
            self.state.quarantined += 1
            if sum(1 for _ in folder.iterdir()) < self._options.quarantine_files:
                path.write_bytes(batch.header + batch.frames[0])
        logger.error(
            "A record must be one the collector takes. Record %d is set aside in %s: %s",
            batch.sequences[0],
            folder,
            answer.error,
        )
        self._offset = batch.ends[0]
        self._reason = "quarantined"
        self.state.save(self.folder / STATE_FILE)
        return 0.0

    def _back_off(self, error: str, retry_after: float | None) -> float:
        if not self._failures:
            logger.warning("A batch must be acknowledged; it is sent again. %s", error)
        self._failures += 1
        self.state.error = error[:300]
        return max(self._pause(), min(retry_after or 0.0, self._options.longest_pause))

    def _pause(self) -> float:
        grown = self._options.first_pause * float(2 ** min(self._failures - 1, 16))
        return min(grown, self._options.longest_pause) * self._rng.uniform(0.5, 1.0)


def shipped_sequence(folder: Path, spool: str) -> int:
    """What a spool's shipper noted as acknowledged; 0 where it noted nothing."""
    state = ShipState.load(folder / STATE_FILE)
    return state.sequence if state.spool == spool else 0


def drained(folder: Path, state: ShipState) -> bool:
    """Whether everything whole in a folder was acknowledged (reads the newest segment)."""
    files = segment_files(folder)
    if len(files) != 1:
        return not files
    last = 0
    for item in scan(files[0].read_bytes()):
        if item.payload is not None and item.payload[0] == Kind.RECORD:
            last = RECORD_HEAD.unpack_from(item.payload)[6]
    return last <= state.sequence
