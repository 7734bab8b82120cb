"""Reports that people read: one HTML file with no network, and the same in Markdown."""

from heliotrope.adapters.reports.data_quality import render_quality_html, render_quality_markdown
from heliotrope.adapters.reports.rendering import environment, render

__all__ = ["environment", "render", "render_quality_html", "render_quality_markdown"]
