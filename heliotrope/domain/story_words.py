"""The story's words: its titles, and how much of the decision log a listener is told."""

from collections.abc import Iterable, Mapping
from textwrap import wrap

from heliotrope.domain.decisions import Decision, DecisionKind
from heliotrope.domain.synthetic.story import ChapterName

TITLES: Mapping[ChapterName, str] = {
    ChapterName.HEALTHY: "Healthy days",
    ChapterName.FAULT: "Incomes in thousands",
    ChapterName.MENDED: "The column is mended",
    ChapterName.NEWCOMERS: "Other people apply",
    ChapterName.ECONOMY: "The economy turns",
    ChapterName.WORSE: "A worse model",
}
PLOTS: Mapping[ChapterName, str] = {
    ChapterName.HEALTHY: "Nothing happens, and nothing must be made of it.",
    ChapterName.FAULT: "Upstream sends annual_income in thousands. Training on it would be wrong.",
    ChapterName.MENDED: "Upstream is mended; the labels of the broken days still come.",
    ChapterName.NEWCOMERS: "Poorer people apply, and default as such people always did.",
    ChapterName.ECONOMY: "Other things make people default than before.",
    ChapterName.WORSE: "Somebody trains on old loans alone, gate off, and rolls it out.",
}
"""A line for whoever watches."""
ECHOES = ("HeliotropeAlarmActive",)
"""Alerts that only say that an alarm of the controller's own is on."""


def worth_telling(decisions: Iterable[Decision]) -> list[Decision]:
    """Without judgements that nothing followed from, echoes, and the same alarm twice at a time."""
    kept, seen = [], set()
    for one in decisions:
        if one.kind is DecisionKind.VERDICT or one.subject.endswith(ECHOES):
            continue
        # One alert has a firing for each metric that it is about.
        name = (one.at, one.subject, one.reason.partition(":")[0])
        if one.kind is DecisionKind.ALARM and name in seen:
            continue
        seen.add(name)
        kept.append(one)
    return kept


def words(decision: Decision, width: int, lines: int) -> list[str]:
    """A decision in so many lines at most; an ellipsis stands for the rest.

    Args:
        decision: from the log.
        width: columns of a line.
        lines: at most.
    """
    text = decision.reason
    if decision.kind is DecisionKind.TRIGGER:
        text = f"{decision.subject.partition(' ')[0]}: {text}"
    parts = wrap(text, width, break_on_hyphens=False)
    if len(parts) > lines:
        parts = parts[:lines]
        parts[-1] = parts[-1][: width - 2].rstrip(" ,;:.(") + " …"
    return parts
