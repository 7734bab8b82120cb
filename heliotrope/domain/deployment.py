"""What a deployment would change, object by object, in words that a person reads. Pure."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

CONTEXT_LINES = 2


class Action(StrEnum):
    """What becomes of one object."""

    CREATE = "create"
    """It is not there, and will be."""
    CHANGE = "change"
    """It is there and will differ."""
    REMOVE = "remove"
    """It is there, and will not be."""
    NONE = "none"
    """It is as it should be."""
    KEEP = "keep"
    """It is not ours to touch, or others need it."""

    @property
    def acts(self) -> bool:
        """Whether anything is done."""
        return self in (Action.CREATE, Action.CHANGE, Action.REMOVE)


SIGNS = {
    Action.CREATE: "+", Action.CHANGE: "~", Action.REMOVE: "-", Action.NONE: "=", Action.KEEP: "=",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One object, and what becomes of it."""

    kind: str
    """As its platform calls it."""
    name: str
    action: Action
    why: str = ""
    """One line."""
    details: tuple[str, ...] = ()
    """A diff, line by line."""


class StepState(StrEnum):
    """What became of one change."""

    DONE = "done"
    """It was made."""
    NOTHING = "nothing"
    """There was nothing to do."""
    FAILED = "failed"
    """It was tried and is not as it should be."""
    NOT_TRIED = "not_tried"
    """Something before it failed."""


@dataclass(frozen=True)
class Step:
    """One change as it came out."""

    change: Change
    state: StepState
    error: str = ""


def text_diff(before: str | None, after: str) -> tuple[str, ...]:
    """What differs between two texts, as `diff -u` says it, without its heading.

    >>> text_diff("a: 1\\nb: 2\\n", "a: 1\\nb: 3\\n")
    ('  a: 1', '- b: 2', '+ b: 3')
    >>> text_diff(None, "a: 1\\n")
    ('+ a: 1',)
    >>> text_diff("a: 1\\n", "a: 1\\n")
    ()
    """
    lines = difflib.unified_diff(
        (before or "").splitlines(), after.splitlines(), lineterm="", n=CONTEXT_LINES
    )
    kept = [line for line in lines if not line.startswith(("---", "+++"))]
    # The first hunk needs no mark of where it is, and others only that something is left out.
    told = [f"{line[0]} {line[1:]}" if not line.startswith("@@") else "  ..." for line in kept]
    return tuple(told[1:])


def summary(steps: Iterable[Step]) -> str:
    """The last line: how many of what.

    >>> summary([Step(Change("ConfigMap", "a", Action.NONE), StepState.NOTHING)])
    'Nothing to do: 1 object is as it should be.'
    """
    every = list(steps)
    failed = [one for one in every if one.state is StepState.FAILED]
    done = [one for one in every if one.state is StepState.DONE]
    if failed:
        left = sum(
            one.state is StepState.NOT_TRIED and one.change.action.acts for one in every
        ) + len(failed)
        return (
            f"Stopped: {len(done)} done, {left} not. Nothing is half-written; "
            "the same command goes on from here."
        )
    if not done:
        one = len(every) == 1
        told = "1 object is as it" if one else f"{len(every)} objects are as they"
        return f"Nothing to do: {told} should be."
    words = {Action.CREATE: "made", Action.CHANGE: "changed", Action.REMOVE: "removed"}
    counts = [
        f"{count} {word}"
        for action, word in words.items()
        if (count := sum(one.change.action is action for one in done))
    ]
    rest = len(every) - len(done)
    return f"Done: {', '.join(counts)}" + (f", {rest} left as they were." if rest else ".")


def foretold(changes: Iterable[Change]) -> str:
    """The last line of a dry run.

    >>> foretold([Change("ConfigMap", "a", Action.CREATE)])
    'Would make 1, change 0, remove 0; 0 stay as they are. Nothing was done.'
    """
    every = list(changes)
    count = {action: sum(one.action is action for one in every) for action in Action}
    return (
        f"Would make {count[Action.CREATE]}, change {count[Action.CHANGE]}, remove "
        f"{count[Action.REMOVE]}; {count[Action.NONE] + count[Action.KEEP]} stay as they are. "
        "Nothing was done."
    )
