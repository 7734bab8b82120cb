"""The predictor's metrics: plain integers while it serves, families of the catalogue when scraped.

`prometheus_client` locks and looks up for every observation, which would cost a one-row answer a
tenth of its time. Only the serving thread counts here, so nothing needs a lock.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


@dataclass
class _Counts:
    """What was counted while the version had one role."""

    requests: Counter[tuple[str, int]]
    outcomes: list[int]
    latency: dict[str, Histogram]
    score: Histogram


class PredictorMetrics(Collector):
    """Counts for one model, exposed as the catalogue says."""

    def __init__(self, model: str, loaded: LoadedModel, role: Role, spool: Spool | None) -> None:
        self.ready = True
        self._labels = (model, loaded.version, str(role))
        self._past: dict[tuple[str, str, str], _Counts] = {}
        """Counts in roles that it no longer has; they stay where they are."""
        self._task = loaded.contract.task
        self._classes = loaded.contract.classes or ("value",)
        self._spool = spool
        self._resume(self._fresh())

    def _fresh(self) -> _Counts:
        return _Counts(
            Counter({(p, 200): 0 for p in PROTOCOLS}),
            [0] * len(self._classes),
            {p: Histogram(known.LATENCY.buckets) for p in PROTOCOLS},
            Histogram(known.SCORE.buckets),
        )

    def _resume(self, counts: _Counts) -> None:
        # Attributes of their own, since each answer looks them up.
        self.requests, self._outcomes = counts.requests, counts.outcomes
        self._latency, self._score = counts.latency, counts.score

    def change_role(self, role: Role) -> None:
        """Count under another role from now on; for the serving thread.

        What was counted stays under the role it was counted in, as counters must not go back.
        """
        model, version, _ = self._labels
        current = _Counts(self.requests, self._outcomes, self._latency, self._score)
        self._past[self._labels] = current
        self._labels = (model, version, str(role))
        again = self._labels in self._past
        self._resume(self._past.pop(self._labels) if again else self._fresh())

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
        if metric.name == known.PREDICTOR_INFO.name:
            return [((*self._labels, str(self._task)), 1)]
        if metric.name == known.PREDICTOR_READY.name:
            return [(self._labels, int(self.ready))]
        now = _Counts(self.requests, self._outcomes, self._latency, self._score)
        counted = [
            self._counted(metric, labels, counts)
            for labels, counts in [*self._past.items(), (self._labels, now)]
        ]
        if None in counted:
            return self._spool_samples(metric, self._labels[0])
        return [sample for samples in counted for sample in samples or ()]

    def _counted(
        self, metric: Metric, labels: tuple[str, str, str], counts: _Counts
    ) -> Samples | None:
        """Samples of one role; None where a metric is not of the requests."""
        model, version, role = labels
        if metric.name == known.REQUESTS.name:
            return [
                ((*labels, protocol, str(code)), count)
                for (protocol, code), count in list(counts.requests.items())
            ]
        if metric.name == known.PREDICTIONS.name:
            return [
                ((model, name, version, role), count)
                for name, count in zip(self._classes, counts.outcomes, strict=True)
            ]
        if metric.name == known.LATENCY.name:
            return [((*labels, p), histogram) for p, histogram in counts.latency.items()]
        if metric.name == known.SCORE.name:
            return [] if self._task is Task.REGRESSION else [(labels, counts.score)]
        return None

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
