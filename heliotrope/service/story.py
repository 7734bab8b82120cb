"""Tells the story on a running platform: lets time run, watches what is decided, says so.

Nothing here touches the model. Loans are sent and labels come late; what happens then is the
platform's own doing, but for the last chapter, in which somebody forces a worse model in.
"""

import time
from collections.abc import Callable, Sequence
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
from heliotrope.domain.story_verdict import told
from heliotrope.domain.story_words import TITLES
from heliotrope.domain.synthetic.story import Chapter, ChapterName, Story
from heliotrope.errors import HeliotropeError
from heliotrope.vocabulary import ALIAS_CHAMPION

LOOK_SECONDS = 0.3
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

    def decided(self, decisions: Sequence[Decision]) -> None:
        """The platform decided something, oldest first."""
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
    patience: float = 900.0
    """Seconds of the machine without a tick of the platform's clock or a decision, after which a
    chapter is given up. A training on a machine with other work may take minutes."""
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
        found: Milestones | None = None
        if any(one.name is ChapterName.ECONOMY for one in chapters):
            found = milestones(turned, self._log, windows)
        return StoryReport(
            model=view.contract.name if view else "",
            accepted=view.contract.accepted if view else None,
            floor=view.contract.floor if view else None,
            chapters=tuple(records),
            milestones=found,
            windows=windows,
            decisions=tuple(self._log),
            seconds=self.timer() - began,
            label_delay=timedelta(seconds=view.contract.label_delay_seconds) if view else None,
        )

    def _tell(self, chapter: Chapter) -> ChapterRecord:
        name = chapter.name
        self.audience.chapter(TITLES[name], chapter)
        if name is ChapterName.WORSE:
            self.stage.force_worse()
        entered = self.stage.now()
        began = moved_at = self.timer()
        # The last one begins when the one before is over, which may be early.
        since = entered + _MOMENT if name is ChapterName.WORSE else chapter.starts
        seen: tuple[datetime, int] | None = None
        while True:
            self._look()
            over = self._over(chapter, since)
            here = (self.stage.now(), len(self._log))
            if here != seen:
                seen, moved_at = here, self.timer()
            if over or self.timer() - moved_at > self.patience:
                break
            self.sleep(LOOK_SECONDS)
        outcome = told(name, self._log, since, self._view.rollout if self._view else None)
        record = ChapterRecord(
            name=name.value,
            title=TITLES[name],
            starts=since,
            ended=self.stage.now(),
            outcome=outcome.outcome,
            as_told=outcome.as_told and over,
            seconds=self.timer() - began,
        )
        self.audience.ended(record)
        return record

    def _look(self) -> None:
        trouble = self.stage.trouble()
        if trouble:
            raise HeliotropeError(f"The loans must come. {trouble}")
        known = len(self._log)
        self._log = self.stage.decisions()
        self.audience.decided(self._log[known:])
        self._view = self.stage.view() or self._view
        self.audience.looked(self.stage.now(), self._view)

    def _over(self, chapter: Chapter, since: datetime) -> bool:
        rollout = self._view.rollout if self._view else None
        if chapter.name is ChapterName.ECONOMY:
            crowned = first(self._log, DecisionKind.ALIAS, since, ALIAS_CHAMPION) is not None
            if crowned and rollout is not None and rollout.over:
                return True
        if chapter.name is ChapterName.WORSE:
            # It is over by itself; its days count from when it began.
            gone = rollout is not None and rollout.opened_at >= since and rollout.over
            return gone or self.stage.now() >= since + (chapter.until - chapter.starts)
        return self.stage.now() >= chapter.until
