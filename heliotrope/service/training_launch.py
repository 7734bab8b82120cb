"""Starting a training run and seeing it to its end, whatever that end is."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from heliotrope.domain.run_events import RunEvent, RunOutcome
from heliotrope.errors import HeliotropeError
from heliotrope.ports import PipelineRuns, Registry
from heliotrope.spec import ModelSpec
from heliotrope.spec.loading import dump_spec
from heliotrope.vocabulary import TAG_OUTCOME, Outcome

TRAINING = "training.yaml"


@dataclass(frozen=True)
class Launch:
    """What to train, and why."""

    spec: ModelSpec
    run_key: str
    cause: str = "person"
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

    Raises:
        HeliotropeError: the pipeline could not be started, or ended without saying how.
    """
    arguments = {
        "spec": dump_spec(launch.spec),
        "run_key": launch.run_key,
        "cause": launch.cause,
    }
    try:
        runs.run(
            TRAINING,
            arguments,
            launch.run_key,
            python_path=launch.python_path,
            on_event=on_event,
        )
    except KeyboardInterrupt:
        _take_back(launch, runs, registry())
        raise
    outcome = runs.log(launch.run_key).outcome()
    if outcome is None:
        raise HeliotropeError(
            f"Run {launch.run_key} must say how it ended. Got nothing; its output is in "
            f"{runs.log(launch.run_key).folder / 'log.txt'}."
        )
    return outcome


def _take_back(launch: Launch, runs: PipelineRuns, registry: Registry) -> None:
    log = runs.log(launch.run_key)
    if log.outcome() is not None:
        return
    registry.discard_incomplete(launch.spec.name)
    run_id = registry.find_run(launch.run_key)
    if run_id is not None:
        registry.log(run_id, tags={TAG_OUTCOME: Outcome.INTERRUPTED})
        registry.finish_run(run_id, "KILLED")
    log.set_outcome(
        RunOutcome(
            model=launch.spec.name,
            run_key=launch.run_key,
            outcome=Outcome.INTERRUPTED,
            reason="stopped by a person or a signal",
            mlflow_run_id=run_id,
        )
    )
