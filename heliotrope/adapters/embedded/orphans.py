"""Steps that outlived their run: found by the folder that only they were given."""

import os
from pathlib import Path

_PROCESSES = Path("/proc")


def signal_orphans(folder: Path, sign: int) -> int:
    """Send a signal to every process of a dead run; answers how many there are.

    Found through what the system knows of each process (Linux); elsewhere none are found.

    Args:
        folder: of the run; its `tmp` is the TMPDIR of all its processes and of no other.
        sign: SIGTERM, which a step turns into an orderly end; 0 only counts.
    """
    mark = b"TMPDIR=" + os.fsencode(folder / "tmp")
    found = 0
    for entry in _PROCESSES.glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            if mark not in environment or int(entry.name) == os.getpid():
                continue
            os.kill(int(entry.name), sign)
        except (OSError, ValueError):
            continue  # it ended meanwhile, or is another person's
        found += 1
    return found
