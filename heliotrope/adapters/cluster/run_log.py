"""A run's log where its steps share no disk: each step is a pod, and MLflow is what they share."""

import sys
from collections.abc import Callable

from pydantic import ValidationError

from heliotrope.domain.run_events import RunEvent, RunOutcome
from heliotrope.errors import HeliotropeError, NotFoundError
from heliotrope.ports.registry import Registry
from heliotrope.service.run_outcome import ARTIFACT_OUTCOME, REPORT

FOLDER = "run"
"""Of the MLflow run's artifacts, where events and kept documents are."""
EVENTS = f"{FOLDER}/events"


class RegistryRunLog:
    """`ports.runs.RunLog` in the artifacts of the run's MLflow run, and on stdout.

    A step must not fail, or hide why it failed, because of its log: an event that MLflow does not
    take now, or that comes before the first step has opened the MLflow run, waits and goes with the
    next one. Outcomes and all that is read raise, since who asks for those must know.

    Args:
        run_key: of the run.
        registry: MLflow.
    """

    def __init__(self, run_key: str, registry: Callable[[], Registry]) -> None:
        self._run_key, self._registry = run_key, registry
        self._run_id: str | None = None
        self._waiting: list[RunEvent] = []

    @property
    def where(self) -> str:
        """The run in KFP's pages, and in MLflow's."""
        return f"the run {self._run_key} in KFP, and in MLflow under {FOLDER}/"

    def add(self, event: RunEvent) -> None:
        """Say an event, and keep it as soon as that is possible."""
        text = event.model_dump_json()
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        self._waiting.append(event)
        try:
            self._flush()
        except HeliotropeError as error:
            sys.stdout.write(f"MLflow did not take this event yet: {error}\n")

    def events(self) -> list[RunEvent]:
        """All events so far, oldest first.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        run_id = self._find()
        if run_id is None:
            return list(self._waiting)
        registry = self._registry()
        found: list[RunEvent] = []
        for path in sorted(registry.list_files(run_id, EVENTS)):
            try:
                found.append(RunEvent.from_json(registry.read_text(run_id, path)))
            except ValidationError:
                continue  # another's file, or one from a later version of this package
        return found + self._waiting

    def reported(self) -> bool:
        """Whether the exit handler ran to its end: then the outcome is the run's last word.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        run_id = self._find()
        if run_id is None:
            return False
        return any(f"-{REPORT}-" in path for path in self._registry().list_files(run_id, EVENTS))

    def set_outcome(self, outcome: RunOutcome) -> None:
        """Write how the run ended.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        registry = self._registry()
        # A run that failed before its first step opened an MLflow run gets one to say so in.
        run_id = self._find() or registry.start_run(outcome.model, self._run_key, {})
        self._run_id = run_id
        self._flush()
        registry.log_text(run_id, outcome.to_json(), ARTIFACT_OUTCOME)

    def outcome(self) -> RunOutcome | None:
        """How it ended, once it has.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        text = self._read(ARTIFACT_OUTCOME)
        return None if text is None else RunOutcome.from_json(text)

    def keep(self, name: str, text: str) -> None:
        """Keep a document of the run.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        run_id = self._find()
        if run_id is not None:
            self._registry().log_text(run_id, text, f"{FOLDER}/{name}")

    def kept(self, name: str) -> str | None:
        """A document that a step kept; None where the run did not come so far.

        Raises:
            UnavailableError: MLflow does not answer.
        """
        return self._read(f"{FOLDER}/{name}")

    def _read(self, path: str) -> str | None:
        run_id = self._find()
        if run_id is None:
            return None
        try:
            return self._registry().read_text(run_id, path)
        except NotFoundError:
            return None

    def _flush(self) -> None:
        run_id = self._find() if self._waiting else None
        if run_id is None:
            return
        registry = self._registry()
        number = len(registry.list_files(run_id, EVENTS))
        while self._waiting:
            event = self._waiting[0]
            # A name of its own for each: MLflow's artifacts can be written, not appended to. The
            # number goes first, since clocks of nodes differ, and one that is simulated stands.
            name = f"{number:05d}-{event.at:%H%M%S%f}-{event.step}-{event.kind.value}.json"
            registry.log_text(run_id, event.model_dump_json(), f"{EVENTS}/{name}")
            number += 1
            del self._waiting[0]

    def _find(self) -> str | None:
        if self._run_id is None:
            self._run_id = self._registry().find_run(self._run_key)
        return self._run_id
