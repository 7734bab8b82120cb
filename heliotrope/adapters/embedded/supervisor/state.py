"""What a supervisor writes down for others: `status`, a second `up`, the serving port."""

import os
import time
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from heliotrope.adapters.embedded.supervisor.proc_stat import GONE, PROC, stat_fields
from heliotrope.adapters.whole_file import write_whole
from heliotrope.domain.document import Document

FOLDER = "platform"
STATE_FILE = "state.json"
LOCK_FILE = "lock"
HEARTBEAT_SECONDS = 1.0
SILENT_SECONDS = 30.0
"""A supervisor that has not written for this long is taken for hung."""


class ChildStatus(Document):
    """One process."""

    name: str
    state: str
    """starting, ready, waiting (for its next start) or stopped."""
    pid: int | None
    url: str | None
    restarts: int
    started_at: datetime | None
    message: str


class ModelStatus(Document):
    """One model behind the gateway."""

    model: str
    weights: dict[str, int]
    """Per cent by version, as the gateway splits."""
    settled: bool
    message: str
    """What a person has to do, where something is to be done."""


class PlatformState(Document):
    """Everything but secrets."""

    pid: int
    ticks: int
    """When that process was started, in the kernel's ticks: tells it from a later one."""
    home: str
    specs: tuple[str, ...]
    started_at: datetime
    stopping: bool
    ready: bool
    """All children answer and every model that has a plan is served by it."""
    urls: dict[str, str]
    """gateway, controller, mlflow, prometheus, alertmanager, collector; those that there are."""
    children: tuple[ChildStatus, ...]
    models: tuple[ModelStatus, ...]
    notes: tuple[str, ...]
    """What is not there, and why."""


def folder_of(home: Path) -> Path:
    """Where the supervisor of a home keeps its files."""
    return home / FOLDER


def read_state(home: Path) -> PlatformState | None:
    """The last state that was written, by a supervisor that may be gone."""
    try:
        return PlatformState.from_json((folder_of(home) / STATE_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def write_state(home: Path, state: PlatformState) -> None:
    """Replace it in one step."""
    write_whole(folder_of(home) / STATE_FILE, state.to_json())


def running_supervisor(home: Path) -> PlatformState | None:
    """The state of the supervisor that runs now; None where none does, or where it is hung."""
    state = read_state(home)
    if state is None or start_ticks(state.pid) != state.ticks:
        return None
    try:
        age = time.time() - (folder_of(home) / STATE_FILE).stat().st_mtime
    except OSError:
        return None
    return state if age < SILENT_SECONDS else None


def start_ticks(pid: int) -> int | None:
    """When a process was started, in ticks since boot; 0 off Linux, None where there is none."""
    if (PROC / "self").exists():
        try:
            words = stat_fields(PROC / str(pid))
        except OSError:
            return None
        return None if words[0] in GONE else int(words[19])
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return 0
