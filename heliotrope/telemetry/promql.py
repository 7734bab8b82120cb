"""Small pieces of PromQL, so that names come from the catalogue and aggregation is not forgotten.

Every expression is aggregated over the labels of the catalogue. That drops the scrape's own labels
(instance, pod), so that an alert stays the same one when a process restarts elsewhere, and two
controllers of which one stands by do not count twice.
"""

from heliotrope.telemetry.metric import Metric


def series(metric: Metric, where: str = "") -> str:
    """A metric's series, by its own labels alone; gauges.

    >>> from heliotrope.telemetry.controller_metrics import TRUTH_COVERAGE
    >>> series(TRUTH_COVERAGE, 'role="champion"')
    'max by (model, version, role) (ml_truth_coverage{role="champion"})'
    """
    return f"max by ({', '.join(metric.labels)}) ({selector(metric, where)})"


def selector(metric: Metric, where: str = "") -> str:
    """A metric with matchers, not aggregated."""
    return f"{metric.name}{{{where}}}" if where else metric.name


def rate(metric: Metric, by: str, where: str = "", window: str = "5m") -> str:
    """How fast a counter rises, a second."""
    return f"sum by ({by}) (rate({selector(metric, where)}[{window}]))"


def rise(metric: Metric, by: str, where: str = "", window: str = "10m") -> str:
    """By how much a counter rose; a series that begins within the window rose from 0.

    `increase` alone misses the first event of a series that the event itself creates.
    """
    chosen = selector(metric, where)
    return (
        f"sum by ({by}) ((increase({chosen}[{window}]) > 0) "
        f"or ({chosen} unless {chosen} offset {window}))"
    )


def quantile(metric: Metric, share: float, by: str, where: str = "", window: str = "5m") -> str:
    """A quantile of a histogram over a window."""
    buckets = f"{metric.name}_bucket" + (f"{{{where}}}" if where else "")
    return f"histogram_quantile({share}, sum by ({by}, le) (rate({buckets}[{window}])))"
