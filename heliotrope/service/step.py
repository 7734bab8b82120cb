"""One step of a run: it says when it starts, what it did, and, where it fails, why."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import FrameType

from heliotrope.domain.run_events import EventKind, RunEvent, RunOutcome
from heliotrope.errors import DataFault, HeliotropeError
from heliotrope.ports import RunLog
from heliotrope.vocabulary import Outcome

Now = Callable[[], datetime]
logger = logging.getLogger(__name__)


@dataclass
class Saying:
    """What a step has to say when it ends well; the last word stays."""

    text: str = ""
    outcome: RunOutcome | None = field(default=None)
    """The run's outcome, where this step decides it."""

    def say(self, text: str) -> None:
        """Replace the line that is shown for this step."""
        self.text = text


@contextmanager
def run_step(
    model: str,
    run_key: str,
    name: str,
    log: RunLog,
    now: Now,
    record: Callable[[RunOutcome], None],
) -> Iterator[Saying]:
    """Run a step's body between a STARTED and a FINISHED or FAILED event.

    SIGTERM becomes KeyboardInterrupt, so that what the step half did is taken back on the way
    out. The outcome a failure means is recorded before the error goes on.

    Args:
        model: the spec's name.
        run_key: of the run.
        name: of the step.
        log: where events go.
        now: the clock.
        record: keeps an outcome where the exit handler finds it; must not raise.
    """
    # What a step takes is the machine's own time, whatever clock stamps it.
    began = time.perf_counter()
    log.add(RunEvent(at=now(), step=name, kind=EventKind.STARTED))
    saying = Saying()
    with _interruptible():
        try:
            yield saying
        except BaseException as error:
            text, kind = _words(error), type(error).__name__
            _add_last(
                log,
                RunEvent(
                    at=now(),
                    step=name,
                    kind=EventKind.FAILED,
                    text=text,
                    error=kind,
                    seconds=time.perf_counter() - began,
                ),
            )
            record(
                saying.outcome
                or RunOutcome(
                    model=model,
                    run_key=run_key,
                    step=name,
                    reason=text,
                    outcome=_meaning(error),
                )
            )
            raise
    if saying.outcome is not None:
        record(saying.outcome)
    log.add(
        RunEvent(
            at=now(),
            step=name,
            kind=EventKind.FINISHED,
            text=saying.text,
            seconds=time.perf_counter() - began,
        )
    )


def _add_last(log: RunLog, event: RunEvent) -> None:
    # The error that ended the step must not be lost behind that of a full disk.
    try:
        log.add(event)
    except (HeliotropeError, OSError) as problem:
        logger.warning("%s failed: %s. That could not be kept: %s", event.step, event.text, problem)


def _meaning(error: BaseException) -> Outcome:
    if isinstance(error, KeyboardInterrupt):
        return Outcome.INTERRUPTED
    return Outcome.DATA_FAULT if isinstance(error, DataFault) else Outcome.FAILED


def _words(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "stopped by a person or a signal"
    if isinstance(error, HeliotropeError):
        return str(error)
    # Not one of ours: its class is half of what it says.
    return f"{type(error).__name__}: {error}"


@contextmanager
def _interruptible() -> Iterator[None]:
    def interrupt(_sign: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
