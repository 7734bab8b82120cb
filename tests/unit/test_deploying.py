"""Deploying is planned, shown and carried out part by part, and goes on from where it stopped."""

from dataclasses import dataclass, field

import pytest

from heliotrope.domain.deployment import (
    Action,
    Change,
    Step,
    StepState,
    foretold,
    summary,
    text_diff,
)
from heliotrope.errors import HeliotropeError, UnavailableError
from heliotrope.service.deploying import carry_out, foresee


@dataclass
class Shelf:
    """A platform that keeps texts by name, and may be silent for a while."""

    kept: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    writes: list[str] = field(default_factory=list)


@dataclass
class Slip:
    """One text on it."""

    shelf: Shelf
    name: str
    text: str | None
    kind: str = "Slip"

    def plan(self) -> Change:
        if "everything" in self.shelf.silent:
            raise UnavailableError("the shelf must answer")
        before = self.shelf.kept.get(self.name)
        if before == self.text:
            return Change(self.kind, self.name, Action.NONE)
        if self.text is None:
            return Change(self.kind, self.name, Action.REMOVE)
        action = Action.CREATE if before is None else Action.CHANGE
        return Change(self.kind, self.name, action, details=text_diff(before, self.text))

    def apply(self) -> Change:
        if self.name in self.shelf.silent:
            raise UnavailableError(f"{self.name} must be writable")
        change = self.plan()
        self.shelf.writes.append(self.name)
        if self.text is None:
            del self.shelf.kept[self.name]
        else:
            self.shelf.kept[self.name] = self.text
        return change


def slips(shelf: Shelf, **texts: str | None) -> list[Slip]:
    return [Slip(shelf, name, text) for name, text in texts.items()]


def states(steps: tuple[Step, ...]) -> list[StepState]:
    return [step.state for step in steps]


def test_a_second_time_does_nothing_and_says_so() -> None:
    shelf = Shelf({"b": "old"})
    parts = slips(shelf, a="1", b="2")
    first = carry_out(parts)
    assert [(s.change.action, s.state) for s in first.steps] == [
        (Action.CREATE, StepState.DONE), (Action.CHANGE, StepState.DONE),
    ]  # fmt: skip
    assert summary(first.steps) == "Done: 1 made, 1 changed."
    second = carry_out(parts)
    assert states(second.steps) == [StepState.NOTHING] * 2
    assert summary(second.steps) == "Nothing to do: 2 objects are as they should be."
    assert shelf.writes == ["a", "b"]


def test_foreseeing_changes_nothing_and_tells_what_carrying_out_does() -> None:
    shelf = Shelf({"b": "x: 1\n", "c": "gone"})
    parts = slips(shelf, a="new", b="x: 2\n", c=None, d=None)
    seen = foresee(parts)
    assert shelf.writes == []
    assert foretold(seen) == (
        "Would make 1, change 1, remove 1; 1 stay as they are. Nothing was done."
    )
    assert seen[1].details == ("- x: 1", "+ x: 2")
    assert [s.change for s in carry_out(parts).steps] == seen


def test_a_failure_ends_it_says_what_was_done_and_the_next_time_goes_on() -> None:
    shelf = Shelf(silent={"b"})
    parts = slips(shelf, a="1", b="2", c="3")
    told: list[Step] = []
    ended = carry_out(parts, told.append)
    assert isinstance(ended.failure, UnavailableError)
    assert states(ended.steps) == [StepState.DONE, StepState.FAILED, StepState.NOT_TRIED]
    assert tuple(told) == ended.steps
    assert ended.steps[1].error == "b must be writable"
    assert summary(ended.steps).startswith("Stopped: 1 done, 2 not.")
    assert shelf.kept == {"a": "1"}
    shelf.silent.clear()
    again = carry_out(parts)
    assert states(again.steps) == [StepState.NOTHING, StepState.DONE, StepState.DONE]
    assert summary(again.steps) == "Done: 2 made, 1 left as they were."
    assert shelf.writes == ["a", "b", "c"]


def test_a_platform_that_does_not_answer_is_an_error_before_anything_is_done() -> None:
    shelf = Shelf(silent={"everything"})
    with pytest.raises(HeliotropeError):
        foresee(slips(shelf, a="1"))
    ended = carry_out(slips(shelf, a="1", b="2"))
    assert states(ended.steps) == [StepState.FAILED, StepState.NOT_TRIED]
    assert (ended.steps[0].change.name, shelf.kept) == ("a", {})


def test_a_diff_shows_what_differs_with_a_little_around_it() -> None:
    before = "".join(f"line {n}\n" for n in range(20))
    after = before.replace("line 3\n", "line three\n").replace("line 15\n", "")
    told = text_diff(before, after)
    assert told == (
        "  line 1", "  line 2", "- line 3", "+ line three", "  line 4", "  line 5", "  ...",
        "  line 13", "  line 14", "- line 15", "  line 16", "  line 17",
    )  # fmt: skip
