"""Jinja as every report uses it: HTML escaped, undefined names refused, numbers written alike."""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment() -> "Environment":
    """The templates of this folder, with the filters `count`, `number`, `share` and `cell`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    made = Environment(
        loader=PackageLoader("heliotrope.adapters", "reports"),
        autoescape=select_autoescape(["html.j2", "html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"count": count, "number": number, "share": share, "cell": cell}
    return made


def render(template: str, **values: Any) -> str:
    """Render a template of this folder; a name it misses is an error, not a blank."""
    return environment().get_template(template).render(**values)


def count(value: int | None) -> str:
    """A whole number with separators.

    >>> count(1234567)
    '1,234,567'
    """
    return "–" if value is None else f"{value:,}"


def number(value: float | None) -> str:
    """A number with the digits a person reads.

    >>> number(0.00012345)
    '0.0001234'
    """
    return "–" if value is None else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def share(value: float | None) -> str:
    """A share as a percentage; never rounded to a false 0% or 100%.

    >>> share(0.00001), share(0.5), share(0.99999)
    ('< 0.01%', '50.00%', '> 99.99%')
    """
    if value is None:
        return "–"
    if 0 < value < 0.0001:
        return "< 0.01%"
    if 0.9999 < value < 1:
        return "> 99.99%"
    return f"{value:.2%}"


def cell(value: Any) -> str:
    """Any value for a Markdown table: one line, bars escaped, HTML inert."""
    text = "–" if value is None else " ".join(str(value).split())
    for found, safe in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "\\`")):
        text = text.replace(found, safe)
    return text
