"""How the story looks on a terminal: chapters, decisions as they fall, a table at the end."""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from textwrap import wrap

from rich import box
from rich.console import Console
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from heliotrope.domain.decisions import Decision
from heliotrope.domain.live_view import LiveView
from heliotrope.domain.story_report import ChapterRecord, StoryReport, comparison
from heliotrope.domain.story_words import PLOTS, words, worth_telling
from heliotrope.domain.synthetic.story import Chapter

_COLOURS = {"alarm": "red", "diagnosis": "yellow", "trigger": "cyan", "rollout": "magenta"}
_SAY_SECONDS = 10.0
_MARGIN, _LINES, _WIDEST = 24, 3, 110


class DemoView:
    """Tells on standard output (`service.story.Audience`)."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
        )
        self._began = time.monotonic()
        self._shown = 0.0

    def __enter__(self) -> "DemoView":
        """Begin."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        if self._console.is_terminal:
            self._live.stop()

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(f"[dim]{time.monotonic() - self._began:5.0f} s[/]  {text}")

    def chapter(self, title: str, chapter: Chapter) -> None:
        """A chapter begins."""
        self._console.print()
        self._console.print(Rule(f"[bold]{title}[/] [dim]{chapter.starts:%B %-d}", align="left"))
        self._console.print(f"[dim]{PLOTS[chapter.name]}[/]")

    def decided(self, decisions: Sequence[Decision]) -> None:
        """The platform decided something."""
        width = min(self._console.width, _WIDEST)
        for one in worth_telling(decisions):
            first, *more = words(one, width - _MARGIN, _LINES)
            line = Text(f"{one.at:%m-%d %H:%M}  ", "dim")
            line.append(f"{one.kind.value:9}", _COLOURS.get(one.kind.value, "blue"))
            line.append(f"  {first}")
            self._console.print(line)
            for rest in more:
                self._console.print(f"{'':{_MARGIN}}{rest}", markup=False)

    def looked(self, now: datetime, view: LiveView | None) -> None:
        """Renew the line at the foot; without a terminal, say it now and then."""
        text = Text(f"{now:%m-%d %H:%M}  ", "bold")
        if view is not None:
            newest = next((one for one in reversed(view.windows) if one.value is not None), None)
            shares = [(one.version, one.share) for one in view.versions if one.share]
            text.append(" ".join(f"v{name} {share}%" for name, share in shares))
            text.append(f"  {view.predicted:,} answers, {view.labelled:,} labels")
            if newest is not None and newest.value is not None:
                text.append(f", {view.contract.primary} {newest.value:.3f}")
        if self._console.is_terminal:
            self._live.update(text, refresh=True)
        elif time.monotonic() - self._shown > _SAY_SECONDS:
            self._shown = time.monotonic()
            self.say(text.plain)

    def ended(self, record: ChapterRecord) -> None:
        """A chapter is over."""
        style, mark = ("bold green", "✓ ") if record.as_told else ("bold red", "✗ ")
        width = min(self._console.width, _WIDEST)
        for number, line in enumerate(wrap(record.outcome, width - 2, break_on_hyphens=False)):
            self._console.print(Text("  " if number else mark, style).append(line))

    def summary(self, report: StoryReport, page: Path) -> None:
        """What it came to."""
        table = Table(
            "", "the silent failure", "here", box=box.SIMPLE_HEAD, title_justify="left",
            title="A model of 94% falls to 72%", pad_edge=False,
        )  # fmt: skip
        for row in comparison(report):
            table.add_row(*row)
        self._console.print()
        if report.milestones is not None:
            self._console.print(table)
        right = sum(one.as_told for one in report.chapters)
        self.say(f"{right} of {len(report.chapters)} chapters went as they should.")
        self._console.print(f"In pictures: {page}", soft_wrap=True, markup=False)
