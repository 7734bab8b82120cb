"""Tells the story on a running platform: lets time run, watches what is decided, says so.

Nothing here touches the model. Loans are sent and labels come late; what happens then is the
platform's own doing, but for the last chapter, in which somebody forces a worse model in.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from heliotrope.domain.decisions import Decision, DecisionKind
from heliotrope.domain.live_view import LiveView
from heliotrope.domain.story_report import (
    ChapterRecord,
    Milestones,
    StoryReport,
    first,
    milestones,
)
from heliotrope.domain.synthetic.story import Chapter, ChapterName, Story
from heliotrope.errors import HeliotropeError
from heliotrope.vocabulary import ALIAS_CHAMPION

LOOK_SECONDS = 0.3
TITLES: Mapping[ChapterName, str] = {
    ChapterName.HEALTHY: "Healthy days",
    ChapterName.FAULT: "Incomes in thousands",
    ChapterName.MENDED: "The column is mended",
    ChapterName.NEWCOMERS: "Other people apply",
    ChapterName.ECONOMY: "The economy turns",
    ChapterName.WORSE: "A worse model is forced in",
}
_QUIET = (DecisionKind.VERDICT,)
_MOMENT = timedelta(microseconds=1)


class Stage(Protocol):
    """The platform on which the story is told."""

    def now(self) -> datetime:
        """By the platform's clock."""
        ...

    def view(self) -> LiveView | None:
        """What the controller knows; None while it does not answer."""
        ...

    def decisions(self) -> list[Decision]:
        """The whole log, oldest first."""
        ...

    def force_worse(self) -> None:
        """Begin to train a worse model and to roll it out, past the gate."""
        ...

    def trouble(self) -> str | None:
        """Why the loans no longer come, where they do not."""
        ...


class Audience(Protocol):
    """Who is told."""

    def chapter(self, title: str, chapter: Chapter) -> None:
        """A chapter begins."""
        ...

    def decided(self, decision: Decision) -> None:
        """The platform decided something."""
        ...

    def looked(self, now: datetime, view: LiveView | None) -> None:
        """A few times a second."""
        ...

    def ended(self, record: ChapterRecord) -> None:
        """A chapter is over."""
        ...


@dataclass
class StoryTeller:
    """Tells a story once."""

    story: Story
    stage: Stage
    audience: Audience
    chapter_seconds: float = 240.0
    """Of the machine's time, that a chapter may take at most."""
    timer: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _log: list[Decision] = field(default_factory=list)
    _view: LiveView | None = None

    def tell(self, chapters: tuple[Chapter, ...]) -> StoryReport:
        """Tell some chapters, in order.

        Raises:
            HeliotropeError: the loans no longer come.
        """
        began = self.timer()
        records = [self._tell(chapter) for chapter in chapters]
        view = self._view
        windows = view.windows if view else ()
        turned = self.story.chapter(ChapterName.ECONOMY).starts
        told: Milestones | None = None
        if any(one.name is ChapterName.ECONOMY for one in chapters):
            told = milestones(turned, self._log, windows)
        return StoryReport(
            model=view.contract.name if view else "",
            accepted=view.contract.accepted if view else None,
            floor=view.contract.floor if view else None,
            chapters=tuple(records),
            milestones=told,
            windows=windows,
            decisions=tuple(self._log),
            seconds=self.timer() - began,
        )

    def _tell(self, chapter: Chapter) -> ChapterRecord:
        name = chapter.name
        self.audience.chapter(TITLES[name], chapter)
        if name is ChapterName.WORSE:
            self.stage.force_worse()
        entered, ends = self.stage.now(), self.timer() + self.chapter_seconds
        # The last one begins when the one before is over, which may be early.
        since = entered + _MOMENT if name is ChapterName.WORSE else max(entered, chapter.starts)
        while True:
            self._look()
            over = self._over(chapter, since)
            if over or self.timer() > ends:
                break
            self.sleep(LOOK_SECONDS)
        outcome, as_told = self._outcome(name, since)
        record = ChapterRecord(
            name=name.value,
            title=TITLES[name],
            starts=since,
            ended=self.stage.now(),
            outcome=outcome,
            as_told=as_told and over,
        )
        self.audience.ended(record)
        return record

    def _look(self) -> None:
        trouble = self.stage.trouble()
        if trouble:
            raise HeliotropeError(f"The loans must come. {trouble}")
        known = len(self._log)
        self._log = self.stage.decisions()
        for decision in self._log[known:]:
            if decision.kind not in _QUIET:
                self.audience.decided(decision)
        self._view = self.stage.view() or self._view
        self.audience.looked(self.stage.now(), self._view)

    def _over(self, chapter: Chapter, since: datetime) -> bool:
        view, now = self._view, self.stage.now()
        if chapter.name is ChapterName.ECONOMY:
            crowned = first(self._log, DecisionKind.ALIAS, since, ALIAS_CHAMPION) is not None
            done = view is not None and view.rollout is not None and view.rollout.over
            return (crowned and done) or now >= chapter.until
        if chapter.name is ChapterName.WORSE:
            return self._gone(since)
        return now >= chapter.until

    def _gone(self, since: datetime) -> bool:
        view = self._view
        if view is None or view.rollout is None or view.rollout.opened_at < since:
            return False
        return view.rollout.over

    def _outcome(self, name: ChapterName, since: datetime) -> tuple[str, bool]:
        asked = first(self._log, DecisionKind.RUN, since)
        alarm = first(self._log, DecisionKind.ALARM, since)
        cause = first(self._log, DecisionKind.DIAGNOSIS, since)
        if name in (ChapterName.HEALTHY, ChapterName.MENDED):
            quiet = asked is None and (name is ChapterName.MENDED or alarm is None)
            return ("nothing was retrained" if quiet else "it was not quiet"), quiet
        if name is ChapterName.FAULT:
            seen = alarm or cause
            said = seen.reason if seen else "the fault was not noticed"
            return said, seen is not None and asked is None
        if name is ChapterName.NEWCOMERS:
            said = cause.reason if cause else "no harm was found"
            return said, asked is None
        moved = first(self._log, DecisionKind.ALIAS, since, ALIAS_CHAMPION)
        if name is ChapterName.ECONOMY:
            return (moved.reason if moved else "no new champion came"), moved is not None
        rollout = self._view.rollout if self._view else None
        said = rollout.reason if rollout and self._gone(since) else "the worse model is still there"
        return said, self._gone(since) and moved is None
