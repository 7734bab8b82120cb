"""What the story came to: when the platform noticed, what it cost, when it was well again."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from heliotrope.domain.decisions import Decision, DecisionKind
from heliotrope.domain.document import Document
from heliotrope.domain.live_view import WindowView
from heliotrope.domain.triggers import TriggerState
from heliotrope.vocabulary import ALIAS_CHAMPION, Role

CONCEPT = "concept shift"
"""What the diagnosis calls the economy's turn."""
SILENT_DAYS = 10.0
"""Nobody notices for so long, in the story that this one answers."""
SILENT_BAD = 50_000
"""And so many bad predictions are made."""
SILENT_ACCURACY = 0.72
SILENT_A_DAY = SILENT_BAD / SILENT_DAYS / (1 - SILENT_ACCURACY)
"""Requests a day from which those follow: 17,857."""


class ChapterRecord(Document):
    """One chapter as it went."""

    name: str
    title: str
    starts: datetime
    """UTC, as all times here, by the platform's clock."""
    ended: datetime
    outcome: str
    """One sentence: what the platform did."""
    as_told: bool
    """Whether it went as it should."""
    seconds: float = 0.0
    """Of the machine's time."""


class Milestones(Document):
    """Of the economy's turn, each None where it did not come."""

    turned: datetime
    noticed: datetime | None = None
    """The first alarm on accuracy."""
    diagnosed: datetime | None = None
    asked: datetime | None = None
    """A retraining was decided upon."""
    promoted: datetime | None = None
    """A new version became champion."""
    bad_unnoticed: int = 0
    """Wrong answers from the turn to the first alarm on accuracy."""
    bad: int = 0
    """And to the new champion."""
    bad_expected: int = 0
    """Of so many, a healthy model is wrong as often as it was before."""
    a_day: float = 0.0
    """Answers a day meanwhile."""


class StoryReport(Document):
    """Everything that the page and the table show."""

    model: str
    accepted: float | None
    floor: float | None
    chapters: tuple[ChapterRecord, ...]
    milestones: Milestones | None
    windows: tuple[WindowView, ...]
    decisions: tuple[Decision, ...]
    seconds: float
    """Of the machine's time."""
    label_delay: timedelta | None = None
    """As the spec promises it."""

    @property
    def as_told(self) -> bool:
        """Whether every chapter went as it should."""
        return all(chapter.as_told for chapter in self.chapters)


def first(
    decisions: Sequence[Decision],
    kind: DecisionKind,
    since: datetime,
    saying: str = "",
) -> Decision | None:
    """The first decision of a kind from a time on, whose subject or reason holds some text."""
    return next(
        (
            one
            for one in decisions
            if one.kind is kind and one.at >= since and saying in f"{one.subject} {one.reason}"
        ),
        None,
    )


def raised(
    decisions: Sequence[Decision], since: datetime, about: tuple[str, ...] = ("ccuracy",)
) -> Decision | None:
    """The first alarm from a time on that was raised about the model, not about a machine.

    >>> raised([], datetime(2026, 3, 1)) is None
    True
    """
    return next(
        (
            one
            for one in decisions
            if one.kind is DecisionKind.ALARM
            and one.at >= since
            and any(name in one.subject for name in about)
            and " is over" not in one.reason
        ),
        None,
    )


def milestones(
    turned: datetime, decisions: Sequence[Decision], windows: Sequence[WindowView]
) -> Milestones:
    """When what happened after the turn, and how many answers were wrong meanwhile.

    A window of which a part lies in the time counts in proportion. Labels that have not come are
    taken to be as the window's others are.
    """
    moments = {
        "noticed": raised(decisions, turned),
        "diagnosed": first(decisions, DecisionKind.DIAGNOSIS, turned, CONCEPT),
        "asked": first(decisions, DecisionKind.TRIGGER, turned, TriggerState.REQUESTED.value),
        "promoted": first(decisions, DecisionKind.ALIAS, turned, ALIAS_CHAMPION),
    }
    at = {name: one.at if one else None for name, one in moments.items()}
    until = at["promoted"] or max((one.window_to for one in windows), default=turned)
    answered = [one for one in windows if one.role != Role.SHADOW and one.value is not None]
    before = [one for one in answered if one.window_to <= turned and one.mature]
    judged = sum(one.labelled for one in before)
    healthy = sum((one.value or 0.0) * one.labelled for one in before) / judged if judged else 1.0
    days = (until - turned) / timedelta(days=1)
    wrong = {one: 1 - (one.value or 0.0) for one in answered}
    return Milestones(
        turned=turned,
        bad_unnoticed=round(_sum(wrong, turned, at["noticed"] or until)),
        bad=round(_sum(wrong, turned, until)),
        bad_expected=round(_sum(dict.fromkeys(answered, 1 - healthy), turned, until)),
        a_day=_sum(dict.fromkeys(answered, 1.0), turned, until) / days if days > 0 else 0.0,
        **at,
    )


def _sum(shares: Mapping[WindowView, float], since: datetime, until: datetime) -> float:
    """Answers between two times, each window's weighed by its share."""
    return sum(
        _share(one.window_from, one.window_to, since, until) * one.predicted * share
        for one, share in shares.items()
    )


def _share(start: datetime, end: datetime, since: datetime, until: datetime) -> float:
    inside = (min(end, until) - max(start, since)) / (end - start)
    return min(max(inside, 0.0), 1.0)


def comparison(report: StoryReport) -> list[tuple[str, str, str]]:
    """What is compared, the silent failure, and this platform."""
    found = report.milestones
    if found is None:
        return []

    def after(moment: datetime | None) -> str:
        return "not yet" if moment is None else _days(moment - found.turned)

    labels = f"; labels take up to {_days(report.label_delay)}" if report.label_delay else ""
    scale = SILENT_A_DAY / found.a_day if found.a_day else 0.0
    return [
        ("until it is noticed", f"{SILENT_DAYS:g} days", f"{after(found.noticed)}{labels}"),
        ("until the cause is named", "when a person has found it", after(found.diagnosed)),
        ("until a retraining starts", "when a person starts one", after(found.asked)),
        ("until a new champion answers", "not told", after(found.promoted)),
        (
            "wrong answers until noticed",
            f"{SILENT_BAD:,}",
            f"{found.bad_unnoticed:,}; at its traffic {_round(found.bad_unnoticed * scale):,}",
        ),
        (
            "until a better model answers",
            f"{_round(SILENT_BAD / SILENT_DAYS):,} more a day",
            f"{found.bad:,}, a healthy model {found.bad_expected:,}; at its traffic "
            f"{_round(found.bad * scale):,}",
        ),
    ]


def _round(count: float) -> int:
    return int(round(count, -2)) if count >= 1000 else round(count)


def _days(length: timedelta) -> str:
    days = length / timedelta(days=1)
    return f"{days:.1f} days" if days >= 1 else f"{days * 24:.0f} hours"
