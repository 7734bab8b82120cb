"""Training runs that are over once they are started: a simulation's clock stands meanwhile."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from heliotrope.domain.run_events import RunEvent, RunOutcome
from heliotrope.ports.runs import RunState

Run = Callable[[str, str, datetime | None], RunOutcome]
"""Run key, cause, when the world changed."""


class MemoryRunLog:
    """What one run said (`ports.RunLog`)."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._events: list[RunEvent] = []
        self._outcome: RunOutcome | None = None
        self._kept: dict[str, str] = {}

    def add(self, event: RunEvent) -> None:
        """Append an event."""
        self._events.append(event)

    def events(self) -> list[RunEvent]:
        """All events so far."""
        return list(self._events)

    def set_outcome(self, outcome: RunOutcome) -> None:
        """Keep how it ended."""
        self._outcome = outcome

    def outcome(self) -> RunOutcome | None:
        """How it ended."""
        return self._outcome

    def keep(self, name: str, text: str) -> None:
        """Keep a document."""
        self._kept[name] = text

    def kept(self, name: str) -> str | None:
        """A document."""
        return self._kept.get(name)


class InstantRuns:
    """Starts runs and waits for them (`ports.runs.RunLauncher`).

    Args:
        run: does it.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._logs: dict[str, MemoryRunLog] = {}

    def start(
        self,
        pipeline: str,  # noqa: ARG002 - there is one
        arguments: Mapping[str, str],
        run_key: str,
        *,
        python_path: Path | None = None,  # noqa: ARG002 - it is on the path already
    ) -> None:
        """As the port says."""
        if run_key in self._logs:
            return
        since = arguments["since"]
        at = datetime.fromisoformat(since) if since else None
        outcome = self._run(run_key, arguments["cause"], at.astimezone(UTC) if at else None)
        log = MemoryRunLog(f"memory://{run_key}")
        log.set_outcome(outcome)
        self._logs[run_key] = log

    def state(self, run_key: str) -> RunState:
        """As the port says."""
        return RunState.ENDED if run_key in self._logs else RunState.ABSENT

    def log(self, run_key: str) -> MemoryRunLog:
        """As the port says."""
        return self._logs.get(run_key) or MemoryRunLog(f"memory://{run_key}")
