"""What a dashboard is, as plain values: rows of panels, each with queries.

A dashboard is of one model, chosen at the top, since intervals and floors of several models on one
axis say nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

MODEL = 'model="$model"'
"""The matcher of the chosen model."""
INTERVAL = "$__rate_interval"
"""Grafana's: at least four scrapes."""


class Kind(StrEnum):
    """How a panel is drawn; Grafana's own names."""

    LINES = "timeseries"
    """Lines over time."""
    NUMBER = "stat"
    """The latest value, large."""
    STATES = "state-timeline"
    """A bar a series, coloured while it is 1."""
    TABLE = "table"
    """The latest values with their labels."""
    HEATMAP = "heatmap"
    """A histogram over time."""


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    expr: str
    """PromQL, with `$model` and `$__rate_interval`."""
    legend: str = ""
    """Of its series, such as `{{version}} {{role}}`."""
    dashed: bool = False
    """Drawn as a limit."""
    band_to: str = ""
    """Legend of the series down to which the area is filled: the two ends of an interval."""


@dataclass(frozen=True)
class Panel:
    """One panel."""

    title: str
    queries: tuple[Query, ...]
    description: str
    """What it says, and what to look for; shown on hover."""
    kind: Kind = Kind.LINES
    unit: str = "short"
    """Grafana's: percentunit, s, bytes, reqps, dateTimeAsIso ..."""
    width: int = 12
    """Of 24."""
    height: int = 8
    low: float | None = None
    high: float | None = None
    stacked: bool = False
    alarming: float | None = None
    """A number from which on a `NUMBER` is red."""
    good_from: float | None = None
    """A number from which on a `NUMBER` is green, and red below."""


@dataclass(frozen=True)
class Row:
    """Panels below one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; its uid is in its address, so it never changes."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]

    def panels(self) -> Iterable[Panel]:
        """All of them, in reading order."""
        for row in self.rows:
            yield from row.panels


@dataclass(frozen=True)
class PanelQuery:
    """A query as Prometheus is asked it."""

    dashboard: str
    panel: str
    expr: str
    legend: str = ""

    def __str__(self) -> str:
        """Where it is, and what is asked."""
        return f"{self.dashboard} / {self.panel}: {self.expr}"


def asked(dashboards: Iterable[Dashboard], model: str, interval: str = "1m") -> list[PanelQuery]:
    """Every query of every panel with its variables filled in.

    Args:
        dashboards: to be asked.
        model: the chosen one.
        interval: what Grafana would make of the rate interval; at least four scrapes.
    """
    return [
        PanelQuery(
            dashboard.title,
            panel.title,
            query.expr.replace("$model", model).replace(INTERVAL, interval),
            query.legend,
        )
        for dashboard in dashboards
        for panel in dashboard.panels()
        for query in panel.queries
    ]
