"""Pipeline runs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from heliotrope.domain.run_events import RunEvent, RunOutcome


class RunLog(Protocol):
    """What one run's steps say of themselves."""

    folder: Path

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
