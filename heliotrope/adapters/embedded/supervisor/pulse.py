"""Does a process that does not answer work, or does it hang?

A machine that is busy holds a process up for seconds without harm; from outside both look the same.
Linux tells them apart: one that is held up has a thread that runs, or would if it got a processor
(`R`), or waits for a disk (`D`); one that is stopped or waits for itself has none and uses no
processor (proc_pid_stat(5), fields 3, 14 and 15).
"""

from typing import NamedTuple

from heliotrope.adapters.embedded.supervisor.proc_stat import PROC, stat_fields

_AT_WORK = (b"R", b"D")


class Pulse(NamedTuple):
    """A process at one moment."""

    ticks: int
    """Processor time that it has used so far, in clock ticks."""
    at_work: bool
    """Whether a thread of it runs, waits for a processor or for a disk."""


def pulse_of(pid: int) -> Pulse | None:
    """Take it; None where the process is gone, or the system has no such files."""
    folder = PROC / str(pid)
    try:
        used = stat_fields(folder)
        states = [stat_fields(thread)[0] for thread in (folder / "task").iterdir()]
    except OSError:
        # A thread that ended meanwhile is one that worked; the next look tells.
        return None
    return Pulse(int(used[11]) + int(used[12]), any(state in _AT_WORK for state in states))


def still(before: Pulse | None, after: Pulse | None) -> bool:
    """Whether nothing was done between two looks.

    >>> still(Pulse(7, False), Pulse(7, False)), still(Pulse(7, False), Pulse(8, False))
    (True, False)
    >>> still(None, None)
    False
    """
    if before is None or after is None:
        return False
    return before.ticks == after.ticks and not (before.at_work or after.at_work)
