"""Pipeline runs."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from heliotrope.domain.run_events import RunEvent, RunOutcome


class RunLog(Protocol):
    """What one run's steps say of themselves."""

    @property
    def where(self) -> str:
        """Where a person finds all of it."""
        ...

    def add(self, event: RunEvent) -> None:
        """Append an event."""
        ...

    def events(self) -> list[RunEvent]:
        """All events so far, oldest first."""
        ...

    def set_outcome(self, outcome: RunOutcome) -> None:
        """Write how the run ended."""
        ...

    def outcome(self) -> RunOutcome | None:
        """How it ended, once it has."""
        ...

    def keep(self, name: str, text: str) -> None:
        """Keep a document of the run, for whoever watches it here."""
        ...

    def kept(self, name: str) -> str | None:
        """A document that a step kept; None where the run did not come so far."""
        ...


class PipelineRuns(Protocol):
    """Runs compiled pipelines."""

    def log(self, run_key: str) -> RunLog:
        """The log of a run."""
        ...

    def run(
        self,
        pipeline: str,
        arguments: Mapping[str, str],
        run_key: str,
        *,
        python_path: Path | None = None,
        on_event: Callable[[RunEvent], None] = ...,
    ) -> int:
        """Run a compiled pipeline to its end; answers 0 when it succeeded."""
        ...


class RunState(StrEnum):
    """How far a run has come that goes on by itself."""

    ABSENT = "absent"
    """It was never started, or whoever started it died before it began."""
    RUNNING = "running"
    """It is under way."""
    ENDED = "ended"
    """It ended, and said how."""
    DIED = "died"
    """It ended without a word: killed, out of memory, the machine went down."""


class RunLauncher(Protocol):
    """Starts pipeline runs that go on when the one who started them is gone."""

    def start(
        self,
        pipeline: str,
        arguments: Mapping[str, str],
        run_key: str,
        *,
        python_path: Path | None = None,
    ) -> None:
        """Start a run, unless this key names one already; may be called any number of times.

        Raises:
            HeliotropeError: it cannot be started; trying again is safe.
        """
        ...

    def state(self, run_key: str) -> RunState:
        """How far it has come."""
        ...

    def log(self, run_key: str) -> RunLog:
        """What its steps said, where that is at hand; empty on a cluster, where MLflow has it."""
        ...


class Runs(PipelineRuns, RunLauncher, Protocol):
    """Both: runs that are watched, and runs that go on alone."""
