"""How a run that went on by itself ended, also where it could not say so."""

import logging

from heliotrope.domain.run_events import EventKind, RunOutcome
from heliotrope.errors import HeliotropeError
from heliotrope.ports import RunLog
from heliotrope.ports.runs import RunState
from heliotrope.service.retraining_facts import RetrainingTools
from heliotrope.service.run_outcome import finish
from heliotrope.vocabulary import Outcome

logger = logging.getLogger(__name__)


def end_of(model: str, run_key: str, state: RunState, tools: RetrainingTools) -> RunOutcome:
    """The outcome of a run that is over; one that died is INTERRUPTED and taken back.

    Args:
        model: the spec's name.
        run_key: of the run.
        state: what the launcher says; ABSENT is a run whose folder is gone.
        tools: where it ran and what it wrote to.
    """
    log = tools.launcher.log(run_key)
    if state is RunState.ENDED:
        return log.outcome() or finish(model, run_key, "SUCCEEDED", "", log, tools.registry)
    if log.outcome() is None:
        log.set_outcome(
            RunOutcome(
                model=model,
                run_key=run_key,
                outcome=Outcome.INTERRUPTED,
                step=_last_step(log),
                reason="its process died without a word (killed, out of memory, a restart?)",
            )
        )
    try:
        tools.registry().discard_incomplete(model)
    except HeliotropeError as error:
        logger.warning("What was half-registered is never shown; it could not go yet: %s", error)
    return finish(model, run_key, "CANCELED", "", log, tools.registry)


def _last_step(log: RunLog) -> str | None:
    started = [event.step for event in log.events() if event.kind is EventKind.STARTED]
    return started[-1] if started else None
