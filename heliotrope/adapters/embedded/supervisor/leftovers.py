"""Processes that a killed supervisor or child left running, found by a mark they inherit.

Process ids may be used again, so nothing is ever ended by a written-down id alone.
"""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress

from heliotrope.adapters.embedded.supervisor.proc_stat import GONE, PROC, stat_fields


def marked(mark: Mapping[str, str]) -> list[int]:
    """Ids of this user's processes that were started with these variables; none off Linux."""
    wanted = {f"{name}={value}".encode() for name, value in mark.items()}
    found = []
    for folder in PROC.glob("[0-9]*") if PROC.is_dir() else ():
        try:
            variables = set((folder / "environ").read_bytes().split(b"\0"))
            gone = stat_fields(folder)[0] in GONE
        except OSError:
            continue
        if wanted <= variables and not gone and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


async def end_leftovers(mark: Mapping[str, str], seconds: float = 5.0) -> list[int]:
    """Ask marked processes to end, kill those that stay; answers which there were."""
    found = marked(mark)
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = marked(mark) if found else []
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        end = time.monotonic() + seconds
        while left and time.monotonic() < end:
            await asyncio.sleep(0.05)
            left = marked(mark)
    return found
