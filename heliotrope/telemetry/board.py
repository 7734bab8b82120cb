"""The numbers behind the metrics of one process, for any thread to write and a scrape to read."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from threading import Lock

from heliotrope.telemetry.metric import Metric, MetricType

Labels = tuple[str, ...]
"""Values of a metric's labels, in its order."""


class _Observed:
    """Values of one histogram's series."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value in the first bucket whose bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Board:
    """Holds a value for every series of some metrics. Thread-safe.

    Series are made by writing to them and kept, so label values must come from small sets; where
    they come and go (versions, features) `replace` states all that there are.

    Args:
        metrics: what may be written.

    >>> from heliotrope.telemetry.collector_metrics import ROWS
    >>> board = Board([ROWS])
    >>> board.add(ROWS, "loans", "labels", by=3)
    >>> board.snapshot(ROWS)
    [(('loans', 'labels'), 3)]
    """

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self.metrics = tuple(metrics)
        self._lock = Lock()
        self._values: dict[str, dict[Labels, float]] = {
            metric.name: {} for metric in self.metrics if metric.type is not MetricType.HISTOGRAM
        }
        self._observed: dict[str, dict[Labels, _Observed]] = {
            metric.name: {} for metric in self.metrics if metric.type is MetricType.HISTOGRAM
        }

    def add(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Raise a counter, or move a gauge."""
        _check(metric, labels)
        with self._lock:
            series = self._values[metric.name]
            series[labels] = series.get(labels, 0) + by

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        _check(metric, labels)
        with self._lock:
            self._values[metric.name][labels] = value

    def raise_to(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a counter whose total is known from elsewhere, such as from a table.

        It is never lowered (a corrected label may lower what it counts), since Prometheus takes a
        fall for a restart and would count all of it again.
        """
        _check(metric, labels)
        with self._lock:
            series = self._values[metric.name]
            series[labels] = max(series.get(labels, value), value)

    def replace(self, metric: Metric, values: Mapping[Labels, float]) -> None:
        """State every series of a gauge; those not named are gone."""
        for labels in values:
            _check(metric, labels)
        with self._lock:
            self._values[metric.name] = dict(values)

    def replace_where(self, metric: Metric, first: str, values: Mapping[Labels, float]) -> None:
        """State every series of a gauge whose first label (the model, mostly) is `first`.

        Raises:
            ValueError: a series with another first label is among the values.
        """
        for labels in values:
            _check(metric, labels)
            if labels[0] != first:
                raise ValueError(f"{metric.name} must be of {first!r} here. Got {labels}.")
        with self._lock:
            kept = {k: v for k, v in self._values[metric.name].items() if k[0] != first}
            self._values[metric.name] = {**kept, **values}

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Count a value in a histogram."""
        _check(metric, labels)
        with self._lock:
            series = self._observed[metric.name].get(labels)
            if series is None:
                series = self._observed[metric.name][labels] = _Observed(metric.buckets)
            series.add(value)

    def snapshot(self, metric: Metric) -> list[tuple[Labels, float]]:
        """A counter's or gauge's series."""
        with self._lock:
            return list(self._values[metric.name].items())

    def histograms(self, metric: Metric) -> list[tuple[Labels, list[int], float]]:
        """A histogram's series: labels, counts by bucket (not cumulative), sum."""
        with self._lock:
            return [
                (labels, list(series.counts), series.sum)
                for labels, series in self._observed[metric.name].items()
            ]


def _check(metric: Metric, labels: Labels) -> None:
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} must have the labels {metric.labels}. Got {labels}.")
