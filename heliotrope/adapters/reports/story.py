"""The story as one self-contained page: its timeline in pictures, its table, its log."""

from heliotrope.adapters.reports.rendering import render
from heliotrope.adapters.reports.story_pictures import timeline_svg, versions_of
from heliotrope.domain.decisions import DecisionKind
from heliotrope.domain.story_report import StoryReport, comparison


def render_story(report: StoryReport) -> str:
    """HTML without a request to anywhere; light and dark."""
    shown = [one for one in report.decisions if one.kind is not DecisionKind.VERDICT]
    first, last = report.chapters[0].starts, report.chapters[-1].ended
    return render(
        "story.html.j2",
        report=report,
        rows=comparison(report),
        decisions=shown,
        picture=timeline_svg(report),
        versions=versions_of(report.windows),
        days=(last - first).days,
        minutes=f"{report.seconds / 60:.1f}",
        right=sum(chapter.as_told for chapter in report.chapters),
    )
