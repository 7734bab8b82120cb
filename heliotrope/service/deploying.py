"""Deploying and removing a model: plan, then apply, part by part; the shell of `heliotrope deploy`.

Parts are applied in their order, and the first that fails ends it: later ones rest on earlier ones
(a schedule on its pipeline). Every part compares before it writes, so that the same command again
does what is left and nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heliotrope.domain.deployment import Action, Change, Step, StepState
from heliotrope.errors import HeliotropeError
from heliotrope.ports.deploying import DeployPart


@dataclass(frozen=True)
class Deployed:
    """What came of it."""

    steps: tuple[Step, ...]
    failure: HeliotropeError | None = None
    """What ended it early."""


def foresee(parts: Sequence[DeployPart]) -> list[Change]:
    """What `carry_out` would do; nothing is changed.

    Raises:
        HeliotropeError: a platform does not answer, or refuses.
    """
    return [part.plan() for part in parts]


def carry_out(
    parts: Sequence[DeployPart], told: Callable[[Step], None] = lambda _: None
) -> Deployed:
    """Apply every part, until one fails.

    Args:
        parts: in an order in which none needs a later one.
        told: called with each step as it ends.
    """
    steps: list[Step] = []
    failure: HeliotropeError | None = None
    for part in parts:
        step, error = _step(part) if failure is None else (_untried(part), None)
        failure = failure or error
        steps.append(step)
        told(step)
    return Deployed(tuple(steps), failure)


def _step(part: DeployPart) -> tuple[Step, HeliotropeError | None]:
    change: Change | None = None
    try:
        change = part.plan()
        if not change.action.acts:
            return Step(change, StepState.NOTHING), None
        return Step(part.apply(), StepState.DONE), None
    except HeliotropeError as error:
        return Step(change or _unknown(part), StepState.FAILED, str(error)), error


def _untried(part: DeployPart) -> Step:
    try:
        return Step(part.plan(), StepState.NOT_TRIED)
    except HeliotropeError as error:
        return Step(_unknown(part), StepState.NOT_TRIED, str(error))


def _unknown(part: DeployPart) -> Change:
    # It could not be compared, so that nothing is known but what it is.
    return Change(part.kind, part.name, Action.CHANGE)
