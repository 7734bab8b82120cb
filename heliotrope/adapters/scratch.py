"""Private temporary folders, gone with whoever made them, however it ends."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "heliotrope-scratch-"
IN_USE = "in-use.lock"


@contextmanager
def scratch_folder(parent: str | None = None) -> Iterator[Path]:
    """A new folder, removed on the way out.

    A process that is killed, as the kernel does where memory runs out, leaves its folder behind,
    and what a query spilled there may be as large as its data. So each folder is locked by the
    one that uses it, and the next one made removes those beside it that nobody holds any more.

    Args:
        parent: where it is made; the system's temporary folder when left out.

    Raises:
        OSError: the parent is not there or cannot be written.

    >>> with scratch_folder() as folder:
    ...     _ = (folder / "part").write_text("spilled")
    >>> folder.exists()
    False
    """
    place = Path(parent or tempfile.gettempdir())
    _remove_left_behind(place)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place) as name:
        folder = Path(name)
        # Locked before it has the name that others look for, so that nobody can come between.
        fresh = folder / f"{IN_USE}.new"
        with fresh.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fresh.rename(folder / IN_USE)
            yield folder


def _remove_left_behind(place: Path) -> None:
    for folder in place.glob(f"{PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            with (folder / IN_USE).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # In use, not locked yet, or removed by another meanwhile.
            continue
