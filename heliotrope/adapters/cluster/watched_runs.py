"""Pipeline runs on KFP as somebody at a terminal sees them: started, watched, stopped by Ctrl-C."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from heliotrope.adapters.cluster.kfp_runs import KfpRuns
from heliotrope.adapters.cluster.run_log import RegistryRunLog
from heliotrope.domain.run_events import RunEvent
from heliotrope.errors import ConflictError
from heliotrope.ports.runs import RunState

POLL_SECONDS = 3.0


class WatchedRuns:
    """`ports.runs.Runs` on KFP.

    Args:
        runs: what starts them.
        poll: seconds between two looks at a run that is watched.
    """

    def __init__(self, runs: KfpRuns, poll: float = POLL_SECONDS) -> None:
        self._runs, self._poll = runs, poll

    def log(self, run_key: str) -> RegistryRunLog:
        """What its steps told MLflow."""
        return self._runs.log(run_key)

    def start(
        self,
        pipeline: str,
        arguments: Mapping[str, str],
        run_key: str,
        *,
        python_path: Path | None = None,
    ) -> None:
        """Start a run, unless this key names one already."""
        self._runs.start(pipeline, arguments, run_key, python_path=python_path)

    def state(self, run_key: str) -> RunState:
        """How far it has come."""
        return self._runs.state(run_key)

    def run(
        self,
        pipeline: str,
        arguments: Mapping[str, str],
        run_key: str,
        *,
        python_path: Path | None = None,
        on_event: Callable[[RunEvent], None] = lambda _: None,
    ) -> int:
        """Start a run and watch it to its end; answers 0 where it said how it ended.

        Interrupted, it terminates the run.

        Raises:
            ConflictError: the key names a run already.
            UnavailableError: KFP or MLflow does not answer; the run goes on.
        """
        if self._runs.find(run_key):
            raise ConflictError(f"A run key names one run. Got {run_key!r} again.")
        self._runs.start(pipeline, arguments, run_key, python_path=python_path)
        told = 0
        try:
            while True:
                state = self._runs.state(run_key)
                events = self.log(run_key).events()
                for event in events[told:]:
                    on_event(event)
                told = max(told, len(events))
                if state in (RunState.ENDED, RunState.DIED):
                    return 0 if state is RunState.ENDED else 1
                # Nothing tells of a run's progress but asking.
                time.sleep(self._poll)
        except KeyboardInterrupt:
            self._runs.terminate(run_key)
            raise
