"""Starting a training run and seeing it to its end, whatever that end is."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from heliotrope.domain.run_events import EventKind, RunEvent, RunOutcome
from heliotrope.errors import HeliotropeError
from heliotrope.ports import PipelineRuns, Registry, RunLog
from heliotrope.service.run_outcome import REPORT, finish
from heliotrope.spec import ModelSpec
from heliotrope.spec.loading import dump_spec
from heliotrope.vocabulary import Outcome

TRAINING = "training.yaml"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """What to train, and why."""

    spec: ModelSpec
    run_key: str
    cause: str = "person"
    since: str = ""
    """When the world changed (ISO 8601), where the cause knows."""
    python_path: Path | None = None
    """Where the spec's own trainer module is."""


def name_run(spec: ModelSpec, now: datetime, unique: str) -> str:
    """A run key that sorts by time and that two runs in one second do not share."""
    return f"{spec.name}-{now:%Y%m%d-%H%M%S}-{unique}"


def launch_training(
    launch: Launch,
    runs: PipelineRuns,
    registry: Callable[[], Registry],
    on_event: Callable[[RunEvent], None],
) -> RunOutcome:
    """Run the training pipeline to its end.

    Interrupted, every process of the run is stopped, a version it was registering is taken back
    and its MLflow run is ended as KILLED, before KeyboardInterrupt goes on.

    A run whose exit handler never ran (its process was killed, the disk is full) is ended here.

    Raises:
        HeliotropeError: the pipeline could not be started.
    """
    arguments = {
        "spec": dump_spec(launch.spec),
        "run_key": launch.run_key,
        "cause": launch.cause,
        "since": launch.since,
    }
    try:
        code = runs.run(
            TRAINING,
            arguments,
            launch.run_key,
            python_path=launch.python_path,
            on_event=on_event,
        )
    except KeyboardInterrupt:
        _take_back(launch, runs.log(launch.run_key), registry)
        raise
    log = runs.log(launch.run_key)
    outcome = log.outcome()
    if outcome is None or not any(e.step == REPORT for e in log.events()):
        state = "FAILED" if code else "SUCCEEDED"
        outcome = finish(launch.spec.name, launch.run_key, state, "", log, registry)
    return outcome


def _take_back(launch: Launch, log: RunLog, registry: Callable[[], Registry]) -> None:
    model, recorded, events = launch.spec.name, log.outcome(), log.events()
    # What was decided before the signal came stays true.
    if recorded is None or recorded.outcome in (Outcome.FAILED, Outcome.INTERRUPTED):
        started = [event.step for event in events if event.kind is EventKind.STARTED]
        log.set_outcome(
            RunOutcome(
                model=model,
                run_key=launch.run_key,
                outcome=Outcome.INTERRUPTED,
                step=started[-1] if started else None,
                reason="stopped by a person or a signal",
            )
        )
    try:
        registry().discard_incomplete(model)
    except HeliotropeError as error:
        logger.warning("What was half-registered is never shown; it could not go yet: %s", error)
    finish(model, launch.run_key, "CANCELED", "", log, registry)
