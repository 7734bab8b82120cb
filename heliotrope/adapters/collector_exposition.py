"""A collector's /metrics: the counts as Prometheus reads them."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from heliotrope.telemetry.catalogue import Metric, MetricType
from heliotrope.telemetry.collector_metrics import COLLECTOR_METRICS, CollectorCounts


class _Exposed(Collector):
    def __init__(self, counts: CollectorCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Family]:
        """Every metric of a collector."""
        for metric in COLLECTOR_METRICS:
            yield _family(metric, self._counts)


def exposition(counts: CollectorCounts) -> bytes:
    """The text of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Exposed(counts))
    return generate_latest(registry)


def _family(metric: Metric, counts: CollectorCounts) -> Family:
    if metric.type is MetricType.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        names = [*(repr(bound) for bound in metric.buckets), "+Inf"]
        for labels, buckets, total in counts.histograms(metric):
            cumulative = list(zip(names, accumulate(buckets), strict=True))
            histogram.add_metric(labels, cumulative, total)
        return histogram
    kind = CounterMetricFamily if metric.type is MetricType.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in counts.snapshot(metric):
        family.add_metric(labels, value)
    return family
