"""The predictor's metrics: plain integers while it serves, families of the catalogue when scraped.

`prometheus_client` locks and looks up for every observation, which would cost a one-row answer a
tenth of its time. Only the serving thread counts here, so nothing needs a lock.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.registry import Collector

from heliotrope.domain.spool_format import PROTOCOLS
from heliotrope.telemetry import predictor_metrics as known
from heliotrope.telemetry.metric import Metric, MetricType
from heliotrope.vocabulary import Role, Task
from predictors.loading import LoadedModel
from predictors.spool import Spool

Samples = list[tuple[tuple[str, ...], Any]]
_FEW = 8
"""Up to here single observations are quicker than numpy."""


class Histogram:
    """Counts by bucket, and the sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = list(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value in the first bucket whose upper bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: npt.NDArray[Any]) -> None:
        """Count many values, such as the scores of a batch."""
        if len(values) <= _FEW:
            for value in values.tolist():
                self.observe(value)
            return
        places = np.searchsorted(self.bounds, values, side="left")
        for place, count in enumerate(np.bincount(places, minlength=len(self.counts)).tolist()):
            self.counts[place] += count
        self.sum += float(values.sum(dtype=np.float64))

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, as Prometheus wants them."""
        names = [*(repr(bound) for bound in self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class PredictorMetrics(Collector):
    """Counts for one model, exposed as the catalogue says."""

    def __init__(self, model: str, loaded: LoadedModel, role: Role, spool: Spool | None) -> None:
        self.ready = True
        self._labels = (model, loaded.version, str(role))
        self._task = loaded.contract.task
        self._classes = loaded.contract.classes or ("value",)
        self._spool = spool
        self.requests: Counter[tuple[str, int]] = Counter({(p, 200): 0 for p in PROTOCOLS})
        self._outcomes = [0] * len(self._classes)
        self._latency = {p: Histogram(known.LATENCY.buckets) for p in PROTOCOLS}
        self._score = Histogram(known.SCORE.buckets)

    def answered(
        self,
        protocol: str,
        seconds: float,
        scores: npt.NDArray[np.float32],
        predictions: npt.NDArray[np.uint16] | None,
    ) -> None:
        """Count one answer."""
        self._latency[protocol].observe(seconds)
        if predictions is None:
            self._outcomes[0] += len(scores)
            return
        if len(scores) == 1:
            self._outcomes[int(predictions[0])] += 1
        else:
            counts = np.bincount(predictions, minlength=len(self._outcomes)).tolist()
            self._outcomes = [a + b for a, b in zip(self._outcomes, counts, strict=True)]
        self._score.observe_all(scores if scores.ndim == 1 else scores.max(axis=1))

    def collect(self) -> Iterator[Family]:
        """Every metric of the catalogue that a predictor owns."""
        for metric in known.PREDICTOR_METRICS:
            yield _family(metric, self._samples(metric))

    def _samples(self, metric: Metric) -> Samples:
        model, version, role = self._labels
        own: dict[str, Samples] = {
            known.PREDICTOR_INFO.name: [((*self._labels, str(self._task)), 1)],
            known.PREDICTOR_READY.name: [(self._labels, int(self.ready))],
            known.REQUESTS.name: [
                ((*self._labels, protocol, str(code)), count)
                for (protocol, code), count in list(self.requests.items())
            ],
            known.PREDICTIONS.name: [
                ((model, name, version, role), count)
                for name, count in zip(self._classes, self._outcomes, strict=True)
            ],
            known.LATENCY.name: [
                ((*self._labels, protocol), histogram)
                for protocol, histogram in self._latency.items()
            ],
            known.SCORE.name: (
                [] if self._task is Task.REGRESSION else [(self._labels, self._score)]
            ),
        }
        return own[metric.name] if metric.name in own else self._spool_samples(metric, model)

    def _spool_samples(self, metric: Metric, model: str) -> Samples:
        spool = self._spool
        if spool is None:
            return []
        oldest = spool.oldest_at
        own: dict[str, Samples] = {
            known.SPOOL_ROWS.name: [((model,), spool.rows)],
            known.SPOOL_BYTES.name: [((model,), spool.size)],
            known.SPOOL_LIMIT.name: [((model,), spool.options.max_bytes)],
            known.SPOOL_AGE.name: [
                ((model,), 0.0 if oldest is None else max(0.0, time.time() - oldest))
            ],
            known.SPOOL_WRITABLE.name: [((model,), int(spool.writable))],
            known.SPOOL_LOST.name: [
                ((model, reason), count) for reason, count in sorted(spool.lost.items())
            ],
            known.SPOOL_DAMAGED.name: [
                ((model, "corrupt"), spool.damaged_bytes),
                ((model, "torn"), spool.torn_bytes),
            ],
        }
        return own[metric.name]


def _family(metric: Metric, samples: Samples) -> Family:
    if metric.type is MetricType.HISTOGRAM:
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, histogram in samples:
            family.add_metric(labels, histogram.buckets(), histogram.sum)
        return family
    kind = CounterMetricFamily if metric.type is MetricType.COUNTER else GaugeMetricFamily
    plain = kind(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
    for labels, value in samples:
        plain.add_metric(labels, value)
    return plain
