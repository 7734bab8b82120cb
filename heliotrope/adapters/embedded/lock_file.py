"""A lock that one process of a machine holds, freed by the system when that process dies."""

import fcntl
import os
from pathlib import Path
from typing import IO

from heliotrope.errors import UnavailableError


class LockFile:
    """An advisory lock (flock) on a file, which says who holds it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.lock"
    >>> first, second = LockFile(path), LockFile(path)
    >>> first.take(), second.take(), second.holder() == f"process {os.getpid()}"
    (True, False, True)
    >>> first.release(); second.take()
    True
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def take(self) -> bool:
        """Try to take it; True if it is ours, also when it was already.

        Raises:
            UnavailableError: the file cannot be written.
        """
        if self._file is not None:
            return True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+")
        except OSError as error:
            raise UnavailableError(
                f"The lock {self._path} must be writable. Got {error.strerror}."
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        file.truncate(0)
        file.write(f"process {os.getpid()}\n")
        file.flush()
        self._file = file
        return True

    def holder(self) -> str:
        """Who holds it, as far as is known."""
        try:
            return self._path.read_text().strip() or "another process"
        except OSError:
            return "another process"

    def release(self) -> None:
        """Give it back; nothing happens if it is not ours."""
        if self._file is not None:
            self._file.close()
            self._file = None
