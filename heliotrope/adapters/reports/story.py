"""The story as one self-contained page: its timeline in pictures, its table, its log."""

from heliotrope.adapters.reports.rendering import render
from heliotrope.adapters.reports.story_pictures import timeline_svg, versions_of
from heliotrope.domain.story_report import StoryReport, comparison
from heliotrope.domain.story_words import worth_telling


def render_story(report: StoryReport) -> str:
    """HTML without a request to anywhere; light and dark."""
    first, last = report.chapters[0].starts, report.chapters[-1].ended
    return render(
        "story.html.j2",
        report=report,
        rows=comparison(report),
        decisions=worth_telling(report.decisions),
        picture=timeline_svg(report),
        versions=versions_of(report.windows),
        days=(last - first).days,
        minutes=f"{report.seconds / 60:.1f}",
        right=sum(chapter.as_told for chapter in report.chapters),
    )
