"""What Linux says of a process or of one of its threads (proc_pid_stat(5))."""

from pathlib import Path

PROC = Path("/proc")
GONE = (b"Z", b"X")
"""States of a process that is over and still listed."""


def stat_fields(folder: Path) -> list[bytes]:
    """The fields of a folder's `stat` from the state, the third, on.

    Args:
        folder: `/proc/PID`, or `/proc/PID/task/TID`.

    Raises:
        OSError: it is gone, or the system has no such files.
    """
    # The name, the second field, is in parentheses and may hold anything.
    return (folder / "stat").read_bytes().rpartition(b")")[2].split()
