"""The story's pictures as SVG text: accuracy day by day, who answered, what was decided.

Written by hand rather than drawn by a plotting library, since colours come from the page's own
variables, so that one page is right in light and dark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

from heliotrope.domain.decisions import Decision, DecisionKind
from heliotrope.domain.live_view import WindowView
from heliotrope.domain.story_report import StoryReport
from heliotrope.vocabulary import ALIAS_CHAMPION, Role

WIDTH, LEFT, RIGHT = 1000, 64, 12
_TOP, _PLOT, _SHARES, _LANE = 34, 230, 34, 22
_BELOW = _TOP + _PLOT + 26
"""Where the plot and its dates end, and the shares begin."""
_NAME = 74.0
"""Width that the longest word of a chapter's name, or two short ones, takes."""
_DAY_NAME = 44.0
"""Width of `Mar 28`."""
_LOWEST = 0.5
_MARKS = {
    DecisionKind.ALARM: "alarm",
    DecisionKind.DIAGNOSIS: "diagnosis",
    DecisionKind.TRIGGER: "trigger",
    DecisionKind.RUN: "run",
    DecisionKind.ROLLOUT: "rollout",
    DecisionKind.ALIAS: "alias",
}
"""Kinds that get a lane below the curve, and their class."""


@dataclass(frozen=True)
class _Scale:
    start: datetime
    end: datetime

    def x(self, moment: datetime) -> float:
        part = (moment - self.start) / (self.end - self.start)
        return LEFT + min(max(part, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)


def timeline_svg(report: StoryReport) -> str:
    """Accuracy by day with its interval, chapters behind it; below, who answered and decisions.

    Each day is drawn in the version that answered; a ring marks a day that is not mature, a
    smaller, paler point what a version answered in the shadow.
    """
    windows = [one for one in report.windows if one.value is not None]
    if not windows:
        return "<p>No prediction had its label yet.</p>"
    scale = _Scale(
        min(one.window_from for one in windows),
        max(*(one.window_to for one in windows), *(one.ended for one in report.chapters)),
    )
    hues = {name: f"v{place % 5}" for place, name in enumerate(versions_of(report.windows))}
    height = _BELOW + _SHARES + 10 + _LANE * len(_MARKS) + 8
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Accuracy by day, and what '
        'was decided">',
        *_chapters(report, scale, height),
        *_axis(report),
        *_days(scale),
        *(part for one in windows for part in _window(one, scale, hues[one.version])),
        *_answered(report.windows, scale, hues),
        *_lanes(report.decisions, scale),
        "</svg>",
    ]
    return "\n".join(parts)


def _y(value: float) -> float:
    part = (min(max(value, _LOWEST), 1.0) - _LOWEST) / (1 - _LOWEST)
    return _TOP + (1 - part) * _PLOT


def _chapters(report: StoryReport, scale: _Scale, height: int) -> list[str]:
    parts = []
    for number, chapter in enumerate(report.chapters):
        x, end = scale.x(chapter.starts), scale.x(chapter.ended)
        kind = "even" if number % 2 == 0 else "odd"
        parts.append(
            f'<rect class="chapter {kind}" x="{x:.1f}" y="0" width="{max(end - x, 0):.1f}" '
            f'height="{height}"/>'
        )
        # A name that needs more room than a short chapter has begins to the left of it.
        wide = max(end - x - 4, _NAME)
        left = min(x + 3, WIDTH - RIGHT - wide)
        parts.append(
            f'<foreignObject x="{left:.1f}" y="2" width="{wide:.1f}" height="30">'
            f'<div xmlns="http://www.w3.org/1999/xhtml" class="name">{escape(chapter.title)}</div>'
            "</foreignObject>"
        )
    return parts


def _axis(report: StoryReport) -> list[str]:
    parts = []
    for percent in range(50, 101, 10):
        y = _y(percent / 100)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4}">{percent}%</text>')
    for name, value in (("accepted", report.accepted), ("floor", report.floor)):
        if value is not None:
            y = _y(value)
            parts.append(
                f'<line class="{name}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(f'<text class="level" x="{WIDTH - RIGHT}" y="{y - 4:.1f}">{name}</text>')
    return parts


def _days(scale: _Scale) -> list[str]:
    parts, at = [], scale.start
    step = timedelta(days=max(1, round((scale.end - scale.start) / timedelta(days=12))))
    # A name that would pass the picture's edge is left out.
    while at < scale.end and scale.x(at) + _DAY_NAME <= WIDTH:
        parts.append(
            f'<text class="day" x="{scale.x(at):.1f}" y="{_TOP + _PLOT + 16}">{at:%b %d}</text>'
        )
        at += step
    return parts


def versions_of(windows: Sequence[WindowView]) -> list[str]:
    """Versions that answered, be it in the shadow, in the order in which they first did."""
    return list(dict.fromkeys(one.version for one in windows))


def _window(one: WindowView, scale: _Scale, hue: str) -> list[str]:
    middle = scale.x(one.window_from + (one.window_to - one.window_from) / 2)
    value = one.value if one.value is not None else 0.0
    shadow = one.role == Role.SHADOW
    kind = f"{hue}{'' if one.mature else ' open'}{' shadow' if shadow else ''}"
    told = escape(
        f"{one.window_from:%b %d}, version {one.version} {one.role}: {value:.3f} over "
        f"{one.labelled:,} of {one.predicted:,} labelled"
    )
    parts = []
    if one.low is not None and one.high is not None and not shadow:
        parts.append(
            f'<line class="whisker {hue}" x1="{middle:.1f}" x2="{middle:.1f}" '
            f'y1="{_y(one.low):.1f}" y2="{_y(one.high):.1f}"/>'
        )
    radius = 2.5 if shadow else 2.0 + 3.0 * min(one.labelled / 500, 1.0)
    parts.append(
        f'<circle class="{kind}" cx="{middle:.1f}" cy="{_y(value):.1f}" r="{radius:.1f}">'
        f"<title>{told}</title></circle>"
    )
    return parts


def _answered(windows: Sequence[WindowView], scale: _Scale, hues: Mapping[str, str]) -> list[str]:
    """A bar a day, divided by who answered users."""
    parts = [f'<text class="lane" x="{LEFT - 6}" y="{_BELOW + _SHARES / 2 + 4}">answers</text>']
    users = [one for one in windows if one.role != Role.SHADOW and one.predicted]
    for start in dict.fromkeys(one.window_from for one in users):
        day = [one for one in users if one.window_from == start]
        total, y = sum(one.predicted for one in day), float(_BELOW)
        for one in day:
            x, end = scale.x(one.window_from), scale.x(one.window_to)
            tall = _SHARES * one.predicted / total
            told = escape(
                f"{start:%b %d}, version {one.version}: {one.predicted:,} of {total:,} answers"
            )
            parts.append(
                f'<rect class="share {hues[one.version]}" x="{x + 1:.1f}" y="{y:.1f}" '
                f'width="{max(end - x - 2, 1):.1f}" height="{tall:.1f}">'
                f"<title>{told}</title></rect>"
            )
            y += tall
    return parts


def _lanes(decisions: Sequence[Decision], scale: _Scale) -> list[str]:
    parts = []
    for number, (kind, name) in enumerate(_MARKS.items()):
        y = _BELOW + _SHARES + 10 + number * _LANE + _LANE / 2
        parts.append(f'<text class="lane" x="{LEFT - 6}" y="{y + 4}">{name}</text>')
        for one in decisions:
            if one.kind is not kind or not scale.start <= one.at <= scale.end:
                continue
            told = escape(f"{one.at:%b %d %H:%M} {one.subject}: {one.reason}")
            crown = " crown" if kind is DecisionKind.ALIAS and ALIAS_CHAMPION in one.reason else ""
            parts.append(
                f'<rect class="mark {name}{crown}" x="{scale.x(one.at) - 3:.1f}" y="{y - 6}" '
                f'width="6" height="12" rx="2"><title>{told}</title></rect>'
            )
    return parts
