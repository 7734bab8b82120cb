"""Who is registering a version, so that another process can tell the living from the killed."""

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Registrar:
    """A process, told apart from a later one with the same number."""

    place: str
    """Host, boot and process namespace: within one, process numbers mean the same."""
    pid: int
    started: str
    """Kernel start tick; empty where the kernel does not tell."""

    @classmethod
    def current(cls) -> "Registrar":
        """This process."""
        return cls(_place(), os.getpid(), _started(os.getpid()))

    @classmethod
    def parse(cls, text: str) -> "Registrar | None":
        """Read what `str` wrote; None for anything else.

        >>> Registrar.parse("laptop|12|99")
        Registrar(place='laptop', pid=12, started='99')
        """
        place, _, rest = text.rpartition("|")[0].rpartition("|")
        return cls(place, int(rest), text.rpartition("|")[2]) if rest.isdigit() else None

    def __str__(self) -> str:
        """Render as a tag value."""
        return f"{self.place}|{self.pid}|{self.started}"

    @property
    def here(self) -> bool:
        """Whether this process can see whether that one lives."""
        return self.place == _place()

    @property
    def alive(self) -> bool:
        """Whether the process still runs; only meaningful where `here`."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return not self.started or _started(self.pid) == self.started


def abandoned(
    registrar: Registrar | None,
    in_flight: bool,
    began: datetime,
    now: datetime,
    patience: timedelta,
) -> bool:
    """Whether nobody is going to finish a registration.

    A process on this machine is asked; one elsewhere is given `patience`.

    Args:
        registrar: who began it; None where it is not known.
        in_flight: whether this very process is at it now.
        began: when.
        now: the time.
        patience: the longest that a registration elsewhere may take.
    """
    if in_flight:
        return False
    if registrar is not None and registrar.here:
        return registrar == Registrar.current() or not registrar.alive
    return now - began > patience


@cache
def _place() -> str:
    boot = _read(Path("/proc/sys/kernel/random/boot_id"))[:8]
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = ""
    return "/".join((socket.gethostname(), boot, namespace)).replace("|", "_")


def _started(pid: int) -> str:
    # The name in field 2 may hold spaces and brackets; the rest is split after its last bracket.
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
