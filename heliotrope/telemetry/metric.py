"""What a metric is: its name, type, labels, unit and meaning, and which process exposes it."""

from dataclasses import dataclass
from enum import StrEnum


class MetricType(StrEnum):
    """Kinds of Prometheus metric."""

    COUNTER = "counter"
    """Only rises; its name ends in `_total`."""
    GAUGE = "gauge"
    """Goes up and down."""
    HISTOGRAM = "histogram"
    """Counts by bucket."""


class Owner(StrEnum):
    """Which process exposes a metric."""

    PREDICTOR = "predictor"
    """One that answers requests; `predictor_metrics`."""
    COLLECTOR = "collector"
    """One that takes spool batches and labels; `collector_metrics`."""
    CONTROLLER = "controller"
    """The one that judges and acts; `controller_metrics`."""


@dataclass(frozen=True)
class Metric:
    """One metric."""

    name: str
    """As it is queried; a counter's has its `_total`."""
    type: MetricType
    help: str
    owner: Owner
    labels: tuple[str, ...] = ()
    unit: str = ""
    """`seconds`, `bytes`, `ratio`, or nothing for a count or what has the unit of a label."""
    buckets: tuple[float, ...] = ()
    """Rising upper bounds of a histogram, without infinity."""
