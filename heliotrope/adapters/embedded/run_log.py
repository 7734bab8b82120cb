"""A run's events as lines of a file, so that one process can watch another's steps."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from heliotrope.adapters.whole_file import write_whole
from heliotrope.domain.run_events import RunEvent, RunOutcome
from heliotrope.errors import HeliotropeError

EVENTS = "events.jsonl"
OUTCOME = "outcome.json"
RESERVE = "reserve"
_RESERVE_BYTES = 64 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT)


class FileRunLog:
    """Events and outcome of one run, in its folder. Appends are single writes: lines stay whole.

    The first event sets a little room aside, so that a full disk can still be said.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._events = folder / EVENTS

    @property
    def where(self) -> str:
        """The folder."""
        return str(self.folder)

    def add(self, event: RunEvent) -> None:
        """Append an event.

        Raises:
            HeliotropeError: the disk is full, what was set aside included.
        """
        line = event.model_dump_json().encode() + b"\n"
        if not self._events.exists():
            self._set_aside()
        if not self._append(line):
            self._release()
            # The first attempt may have left a part of its line.
            if not self._append(b"\n" + line):
                raise self._full()

    def _append(self, line: bytes) -> bool:
        handle = os.open(self._events, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            return os.write(handle, line) == len(line)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return False
        finally:
            os.close(handle)

    def _set_aside(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / RESERVE).write_bytes(bytes(_RESERVE_BYTES))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._release()
            raise self._full() from error

    def _release(self) -> None:
        (self.folder / RESERVE).unlink(missing_ok=True)

    def _full(self) -> HeliotropeError:
        return HeliotropeError(
            f"The run's folder {self.folder} must have room. No space left on device."
        )

    def events(self) -> list[RunEvent]:
        """All events so far, oldest first; a torn last line is not one yet."""
        return [event for event, _ in self._read(0)]

    def tail(self, offset: int) -> tuple[list[RunEvent], int]:
        """Events from a byte offset on, and the offset to go on from."""
        found = list(self._read(offset))
        return [event for event, _ in found], found[-1][1] if found else offset

    def _read(self, offset: int) -> Iterator[tuple[RunEvent, int]]:
        try:
            with self._events.open("rb") as lines:
                lines.seek(offset)
                for line in lines:
                    offset += len(line)
                    if not line.endswith(b"\n"):
                        return
                    try:
                        yield RunEvent.from_json(line), offset
                    except ValidationError:
                        continue  # a line cut short by a full disk
        except FileNotFoundError:
            return

    def set_outcome(self, outcome: RunOutcome) -> None:
        """Write how the run ended, in one step.

        Raises:
            HeliotropeError: the disk is full, what was set aside included.
        """
        if not self._write_outcome(outcome):
            self._release()
            if not self._write_outcome(outcome):
                raise self._full()

    def _write_outcome(self, outcome: RunOutcome) -> bool:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / OUTCOME, outcome.to_json())
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return False
        return True

    def outcome(self) -> RunOutcome | None:
        """How it ended, once it has."""
        try:
            return RunOutcome.from_json((self.folder / OUTCOME).read_bytes())
        except FileNotFoundError:
            return None

    def keep(self, name: str, text: str) -> None:
        """Keep a document of the run beside its log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def kept(self, name: str) -> str | None:
        """A document that a step kept; None where the run did not come so far."""
        try:
            return (self.folder / name).read_text()
        except FileNotFoundError:
            return None

    def clear_scratch(self) -> None:
        """Remove what kfp.local leaves behind, one folder a step, and what was set aside."""
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        self._release()
