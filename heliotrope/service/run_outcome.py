"""How a run ended, kept where the exit handler and the person find it."""

import logging
from collections.abc import Callable

from heliotrope.domain.run_events import RunOutcome, decide_outcome
from heliotrope.errors import HeliotropeError, NotFoundError
from heliotrope.ports import Registry, RunLog
from heliotrope.vocabulary import TAG_OUTCOME, TAG_OUTCOME_REASON, Outcome

ARTIFACT_OUTCOME = "outcome.json"
REPORT = "report_outcome"
"""The exit handler, as its event in the run log names it."""
_TAG_LIMIT = 4000
_STATUS = {
    Outcome.REGISTERED: "FINISHED",
    Outcome.NOT_ACCEPTED: "FINISHED",
    Outcome.DATA_FAULT: "FAILED",
    Outcome.FAILED: "FAILED",
    Outcome.INTERRUPTED: "KILLED",
}
logger = logging.getLogger(__name__)


def record(outcome: RunOutcome, log: RunLog, registry: Callable[[], Registry]) -> None:
    """Keep what a step decided. Never raises: a registry that is away is why some steps fail.

    On this machine the run log has it; on a cluster, where each step is a pod, the MLflow run.
    """
    try:
        log.set_outcome(outcome)
    except (HeliotropeError, OSError) as error:
        logger.warning("The outcome could not be kept: %s", error)
    try:
        here = registry()
        run_id = here.find_run(outcome.run_key)
        if run_id is not None:
            here.log_text(run_id, outcome.to_json(), ARTIFACT_OUTCOME)
    except HeliotropeError as error:
        logger.warning("The outcome could not be written to MLflow: %s", error)


def finish(
    model: str,
    run_key: str,
    state: str,
    message: str,
    log: RunLog,
    registry: Callable[[], Registry],
) -> RunOutcome:
    """Decide how the run ended and say so everywhere; the last thing a run does.

    Args:
        model: the spec's name.
        run_key: of the run.
        state: what the platform says, such as SUCCEEDED or FAILED.
        message: the platform's own error message.
        log: of the run.
        registry: MLflow; may be away.

    """
    events = log.events()
    try:
        here = registry()
        run_id = here.find_run(run_key)
        recorded = log.outcome() or (_recorded(here, run_id) if run_id else None)
        outcome = decide_outcome(model, run_key, recorded, events, state, message)
        if run_id is not None:
            url = here.run_url(run_id)
            outcome = outcome.model_copy(update={"mlflow_run_id": run_id, "url": url})
            tags = {TAG_OUTCOME: outcome.outcome, TAG_OUTCOME_REASON: outcome.reason[:_TAG_LIMIT]}
            here.log(run_id, tags=tags)
            here.log_text(run_id, outcome.to_json(), ARTIFACT_OUTCOME)
            here.finish_run(run_id, _STATUS[outcome.outcome])
    except HeliotropeError as error:
        logger.warning("The outcome could not be written to MLflow: %s", error)
        outcome = decide_outcome(model, run_key, log.outcome(), events, state, message)
    log.set_outcome(outcome)
    return outcome


def _recorded(registry: Registry, run_id: str) -> RunOutcome | None:
    try:
        return RunOutcome.from_json(registry.read_text(run_id, ARTIFACT_OUTCOME))
    except NotFoundError:
        return None


def outcome_markdown(outcome: RunOutcome) -> str:
    """The outcome for the KFP UI."""
    title = outcome.outcome.replace("_", " ")
    lines = [f"# {outcome.model}: {title}", "", outcome.reason, ""]
    facts = {
        "step": outcome.step,
        "version": outcome.version,
        "alias": outcome.alias,
        "gate": outcome.verdict,
        "run": outcome.run_key,
        "MLflow run": outcome.url or outcome.mlflow_run_id,
    }
    lines += [f"- **{name}**: {value}" for name, value in facts.items() if value]
    return "\n".join(lines) + "\n"
