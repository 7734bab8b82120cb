"""The story that the demo tells: one credit model through everything that happens to models.

Healthy weeks; a column that arrives in thousands; other people who apply, who default as ever; an
economy that turns; and all of it with known truth, so that what is noticed, and when, can be
judged. The story it answers: a model of 94% falls to 72% and nobody notices for ten days.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from heliotrope.domain.synthetic.knobs import (
    ConceptShift,
    CovariateShift,
    Fault,
    FaultKind,
    LoanKnobs,
    Ramp,
)
from heliotrope.domain.synthetic.scenarios import clear_cut

STORY_START = datetime(2026, 3, 2)  # noqa: DTZ001 - UTC by definition
_DAY = timedelta(days=1)


class ChapterName(StrEnum):
    """What happens."""

    HEALTHY = "healthy"
    """Nothing."""
    FAULT = "fault"
    """Upstream sends incomes in thousands: valid values, all wrong."""
    MENDED = "mended"
    """The column is right again."""
    NEWCOMERS = "newcomers"
    """Poorer people apply; what makes them default is as ever."""
    ECONOMY = "economy"
    """Other things make people default than before, and it stays so."""
    WORSE = "worse"
    """Somebody forces a worse model in, past the gate."""


@dataclass(frozen=True)
class Chapter:
    """A stretch of the story."""

    name: ChapterName
    starts: datetime
    """UTC."""
    until: datetime

    @property
    def days(self) -> float:
        """Its length."""
        return (self.until - self.starts) / _DAY


@dataclass(frozen=True)
class Story:
    """When what happens, and how much.

    >>> [f"{c.name} {c.days:g}" for c in Story().chapters()][:3]
    ['healthy 6', 'fault 3', 'mended 3']
    """

    loans_a_day: int = 500
    """Requests, as in the story it answers."""
    history_days: int = 40
    """Of loans that are known before it begins."""
    seed: int = 7
    healthy: int = 6
    """Days, as of each chapter; one of no days is left out."""
    fault: int = 3
    mended: int = 3
    newcomers: int = 4
    economy: int = 21
    """At most; it is over when the new champion is there."""
    worse: int = 7
    """At most; it is over when the worse candidate is gone."""
    strength: float = 0.55
    """Of the economy's turn: takes a model of .93 to about .72."""
    newcomers_strength: float = 0.35

    def chapters(self) -> tuple[Chapter, ...]:
        """In order, each beginning where the one before ends."""
        days = {name: int(getattr(self, name)) for name in ChapterName}
        chapters, at = [], STORY_START.replace(tzinfo=UTC)
        for name, length in days.items():
            chapters.append(Chapter(name, at, at + length * _DAY))
            at += length * _DAY
        return tuple(chapters)

    def chapter(self, name: ChapterName) -> Chapter:
        """One of them."""
        return next(chapter for chapter in self.chapters() if chapter.name is name)

    @property
    def first_known(self) -> datetime:
        """Time of the oldest loan of the history, UTC."""
        return STORY_START.replace(tzinfo=UTC) - self.history_days * _DAY

    def loans(self) -> LoanKnobs:
        """Every loan, from the first of the history to the end of the last chapter."""
        chapters = self.chapters()
        days = (chapters[-1].until - self.first_known) / _DAY
        fault, newcomers, economy = (
            self.chapter(name)
            for name in (ChapterName.FAULT, ChapterName.NEWCOMERS, ChapterName.ECONOMY)
        )
        start, stop = _naive(newcomers.starts), _naive(newcomers.until)
        turn = Ramp(_naive(economy.starts))
        knobs = LoanKnobs(
            rows=round(self.loans_a_day * days),
            seed=self.seed,
            start=_naive(self.first_known),
            days=days,
            covariate_shifts=(
                *(
                    (
                        CovariateShift(self.newcomers_strength, Ramp(start)),
                        CovariateShift(-self.newcomers_strength, Ramp(stop)),
                    )
                    if self.newcomers
                    else ()
                ),
                CovariateShift(0.5 * self.strength, turn),
            ),
            concept_shifts=(ConceptShift(self.strength, 0.5 * self.strength, turn),),
            faults=(
                Fault(
                    FaultKind.SCALE,
                    "annual_income",
                    start=_naive(fault.starts),
                    until=_naive(fault.until),
                    factor=0.001,
                ),
            )
            if self.fault
            else (),
        )
        return clear_cut(knobs)

    def history(self) -> LoanKnobs:
        """The loans that are known before the story begins: nothing has happened to them."""
        knobs = self.loans()
        return replace(
            knobs,
            rows=self.loans_a_day * self.history_days,
            days=float(self.history_days),
            covariate_shifts=(),
            concept_shifts=(),
            faults=(),
        )


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
