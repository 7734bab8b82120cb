"""What a pipeline run says of itself while it runs, and how it ended."""

from datetime import datetime
from enum import StrEnum

from heliotrope.domain.document import Document
from heliotrope.vocabulary import Outcome, Verdict


class EventKind(StrEnum):
    """What happened to a step."""

    STARTED = "started"
    """It began."""
    FINISHED = "finished"
    """It did its work."""
    FAILED = "failed"
    """It raised; the text is its own error."""


class RunEvent(Document):
    """One thing that happened in a run."""

    at: datetime
    step: str
    kind: EventKind
    text: str = ""
    """One line for a person."""
    seconds: float | None = None
    """How long the step's own work took, without the start of its process."""
    error: str | None = None
    """Class of the error, where it failed."""


class RunOutcome(Document):
    """How a run ended."""

    model: str
    run_key: str
    outcome: Outcome
    reason: str
    """One line in numbers where there are numbers."""
    step: str | None = None
    """The step that decided it."""
    version: str | None = None
    """The registered version."""
    alias: str | None = None
    """The alias it got."""
    verdict: Verdict | None = None
    mlflow_run_id: str | None = None
    url: str | None = None
    """Where a person sees the MLflow run."""


def decide_outcome(
    model: str,
    run_key: str,
    recorded: RunOutcome | None,
    events: list[RunEvent],
    state: str,
    message: str,
) -> RunOutcome:
    """How the run ended, from what its steps recorded and what the platform says.

    A step's own record wins over the platform's message, which names only the task. A run that
    claims success without any record of it is FAILED: silence is never success. Where the platform
    repeats a step that failed, the failure does not count once the step has done its work.

    Args:
        model: the spec's name.
        run_key: of the run.
        recorded: what a step recorded as the outcome, if one did.
        events: what is known of the steps, oldest first.
        state: the platform's final state, such as SUCCEEDED or FAILED.
        message: the platform's error message, often only a task name.
    """
    overcome = _overcome(events)
    failure = next(
        (
            event
            for at, event in reversed(list(enumerate(events)))
            if event.kind is EventKind.FAILED and at > overcome.get(event.step, -1)
        ),
        None,
    )
    stale = (Outcome.FAILED, Outcome.INTERRUPTED)
    if recorded is not None and recorded.outcome in stale and recorded.step in overcome:
        # Unless it failed again later, in which case the failure above says so.
        recorded = None
    if recorded is not None and not (
        failure and recorded.outcome in (Outcome.REGISTERED, Outcome.NOT_ACCEPTED)
    ):
        return recorded
    if failure is not None:
        return RunOutcome(
            model=model,
            run_key=run_key,
            outcome=Outcome.FAILED,
            step=failure.step,
            reason=failure.text,
        )
    running = [e.step for e in events if e.kind is EventKind.STARTED]
    finished = {e.step for e in events if e.kind is EventKind.FINISHED}
    died = next((step for step in reversed(running) if step not in finished), None)
    if died is not None:
        reason = f"step {died} died without a word (killed, or out of memory?)"
    elif state == "SUCCEEDED":
        reason = "the run ended without any step recording an outcome"
    else:
        reason = message or f"the platform says {state}"
    return RunOutcome(
        model=model, run_key=run_key, outcome=Outcome.FAILED, step=died, reason=reason
    )


def _overcome(events: list[RunEvent]) -> dict[str, int]:
    """Where each step that failed before did its work in the end."""
    failed: set[str] = set()
    found: dict[str, int] = {}
    for at, event in enumerate(events):
        if event.kind is EventKind.FAILED:
            failed.add(event.step)
        elif event.kind is EventKind.FINISHED and event.step in failed:
            found[event.step] = at
    return found
