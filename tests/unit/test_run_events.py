"""How a run ended is decided from its steps' own words, and silence is never success."""

from datetime import UTC, datetime

import pytest

from heliotrope.domain.run_events import EventKind, RunEvent, RunOutcome, decide_outcome
from heliotrope.service.run_outcome import outcome_markdown
from heliotrope.vocabulary import Outcome

AT = datetime(2026, 3, 1, tzinfo=UTC)


def event(step: str, kind: EventKind, text: str = "") -> RunEvent:
    return RunEvent(at=AT, step=step, kind=kind, text=text)


def outcome(kind: Outcome, reason: str = "said so") -> RunOutcome:
    return RunOutcome(model="m", run_key="k", outcome=kind, reason=reason)


STARTED = event("train_model", EventKind.STARTED)
FINISHED = event("train_model", EventKind.FINISHED, "fine")
FAILED = event("train_model", EventKind.FAILED, "deep error")
AGAIN = [STARTED, FAILED, STARTED, FINISHED]
DIED = event("gate_model", EventKind.STARTED)
STALE = outcome(Outcome.FAILED, "deep error").model_copy(update={"step": "train_model"})
"""Written by the first try, and never taken back."""


@pytest.mark.parametrize(
    ("recorded", "events", "state", "kind", "reason"),
    [
        (outcome(Outcome.REGISTERED), [STARTED, FINISHED], "SUCCEEDED", "registered", "said so"),
        (outcome(Outcome.NOT_ACCEPTED), [], "SUCCEEDED", "not_accepted", "said so"),
        (outcome(Outcome.DATA_FAULT), [FAILED], "FAILED", "data_fault", "said so"),
        (outcome(Outcome.INTERRUPTED), [FAILED], "FAILED", "interrupted", "said so"),
        (outcome(Outcome.REGISTERED), [FAILED], "FAILED", "failed", "deep error"),
        (None, [STARTED, FAILED], "FAILED", "failed", "deep error"),
        (None, [STARTED], "FAILED", "failed", "died without a word"),
        (None, [STARTED, FINISHED], "SUCCEEDED", "failed", "without any step recording"),
        (None, [STARTED, FINISHED], "FAILED", "failed", "Task x failed"),
        (None, [], "CANCELED", "failed", "Task x failed"),
        # A pod that was run again: only what came after its last good end counts.
        (outcome(Outcome.REGISTERED), AGAIN, "SUCCEEDED", "registered", "said so"),
        (outcome(Outcome.NOT_ACCEPTED), AGAIN, "SUCCEEDED", "not_accepted", "said so"),
        (STALE, AGAIN, "SUCCEEDED", "failed", "without any step recording"),
        (STALE, [*AGAIN, DIED], "FAILED", "failed", "gate_model died without a word"),
        (STALE, [*AGAIN, STARTED, FAILED], "FAILED", "failed", "deep error"),
        (None, [*AGAIN, STARTED, FAILED], "FAILED", "failed", "deep error"),
    ],
)
def test_the_steps_own_words_decide(
    recorded: RunOutcome | None, events: list[RunEvent], state: str, kind: str, reason: str
) -> None:
    decided = decide_outcome("m", "k", recorded, events, state, "Task x failed")
    assert decided.outcome == kind
    assert reason in decided.reason


def test_the_failed_step_is_named() -> None:
    decided = decide_outcome("m", "k", None, [STARTED, FAILED], "FAILED", "")
    assert decided.step == "train_model"
    assert "deep error" in outcome_markdown(decided)
    assert "- **step**: train_model" in outcome_markdown(decided)
