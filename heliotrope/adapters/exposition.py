"""A process's /metrics: what is on its board, as Prometheus reads it (text format 0.0.4)."""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from heliotrope.telemetry.board import Board
from heliotrope.telemetry.metric import Metric, MetricType

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""What `exposition` is sent as."""


class _Exposed(Collector):
    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Family]:
        """Every metric of the board."""
        for metric in self._board.metrics:
            yield _family(metric, self._board)


def exposition(board: Board) -> bytes:
    """The text of /metrics; a metric that has no series yet is there with its HELP and TYPE."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Exposed(board))
    return generate_latest(registry)


def _family(metric: Metric, board: Board) -> Family:
    if metric.type is MetricType.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        names = [*(repr(bound) for bound in metric.buckets), "+Inf"]
        for labels, buckets, total in board.histograms(metric):
            cumulative = list(zip(names, accumulate(buckets), strict=True))
            histogram.add_metric(labels, cumulative, total)
        return histogram
    kind = CounterMetricFamily if metric.type is MetricType.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in board.snapshot(metric):
        family.add_metric(labels, value)
    return family
