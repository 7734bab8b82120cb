"""Requests by version, scraped from the versions' own /metrics: works without Prometheus."""

import math
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from heliotrope.errors import UnavailableError
from heliotrope.ports.serving import Serving, Traffic
from heliotrope.telemetry.predictor_metrics import LATENCY, LATENCY_BUCKETS, REQUESTS

KEPT = 2000
"""Samples of a version; beyond it every other one of the older half goes."""
SCRAPE_SECONDS = 1.0
"""A version that hangs keeps the tick that would decide on it for so long; one that is only late is
read the next time."""
_EDGES = (0.0, *LATENCY_BUCKETS)
_NO_SCORE = 422


@dataclass(frozen=True)
class Counts:
    """Since a process began, or added up over its restarts."""

    requests: int = 0
    errors: int = 0
    latency: tuple[int, ...] = (0,) * len(_EDGES)
    """By bucket of `LATENCY_BUCKETS`, then those beyond."""

    def less(self, other: "Counts") -> "Counts":
        """What was added since."""
        return Counts(
            self.requests - other.requests,
            self.errors - other.errors,
            tuple(a - b for a, b in zip(self.latency, other.latency, strict=True)),
        )

    def plus(self, other: "Counts") -> "Counts":
        """Both."""
        return Counts(
            self.requests + other.requests,
            self.errors + other.errors,
            tuple(a + b for a, b in zip(self.latency, other.latency, strict=True)),
        )


@dataclass(frozen=True)
class Instance:
    """One process that answers as a version."""

    version: str
    name: str
    """Another when it is another process's place: a pod's id."""
    url: str
    """Its base URL, past every split."""


@dataclass
class _History:
    """One version's."""

    total: Counts = field(default_factory=Counts)
    processes: dict[str, Counts] = field(default_factory=dict)
    """As each instance last said."""
    samples: list[tuple[datetime, Counts]] = field(default_factory=list)


class ScrapeWatch:
    """Keeps a short history of what running versions count of themselves (`TrafficWatch`).

    Args:
        serving: knows where versions run, one process each.
        fetch: answers the text at a URL; raises OSError.
        instances: where they run, by model, where a version has several processes.
    """

    def __init__(
        self,
        serving: Serving,
        fetch: Callable[[str], str] | None = None,
        instances: Callable[[str], Sequence[Instance]] | None = None,
    ) -> None:
        self._serving, self._fetch = serving, fetch or _get
        self._instances = instances or self._of_revisions
        self._known: dict[tuple[str, str], _History] = {}
        self._began: dict[str, datetime] = {}
        self._trouble: dict[str, str] = {}

    def sample(self, model: str, now: datetime) -> None:
        """Scrape every instance of a model that listens. One that does not answer is missed.

        Raises:
            UnavailableError: where they run is not known.
        """
        running = self._instances(model)
        self._trouble.pop(model, None)
        said: dict[str, dict[str, Counts]] = {}
        for one in running:
            try:
                text = self._fetch(f"{one.url.rstrip('/')}/metrics")
                counts = read_counts(text, one.version)
            except (OSError, ValueError) as error:
                # Whether it lives is another question, asked by whoever runs it.
                self._trouble[model] = f"version {one.version}: {error}"
                continue
            said.setdefault(one.version, {})[one.name] = counts
        for version, processes in said.items():
            self._take(model, version, processes, now)
        self._began.setdefault(model, now)
        there = {one.version for one in running}
        for key in [key for key in self._known if key[0] == model and key[1] not in there]:
            del self._known[key]

    def _of_revisions(self, model: str) -> list[Instance]:
        observed = self._serving.observe(model)
        running = observed.revisions if observed else ()
        return [Instance(r.version, r.version, r.address) for r in running if r.address]

    def traffic(self, model: str, since: datetime, until: datetime) -> list[Traffic]:
        """As the port says.

        Raises:
            UnavailableError: nothing was ever counted, and the last try says why.
        """
        found = [
            _traffic(version, self._between(history, since, until))
            for (name, version), history in self._known.items()
            if name == model
        ]
        if not found and model in self._trouble:
            raise UnavailableError(f"versions must tell their counts. {self._trouble[model]}")
        return found

    def _take(
        self, model: str, version: str, processes: Mapping[str, Counts], now: datetime
    ) -> None:
        history = self._known.get((model, version))
        fresh = history is None
        if history is None:
            history = self._known[model, version] = _History()
        for name, counts in processes.items():
            before = history.processes.get(name)
            if before is None:
                # One that appears while we watch began with nothing; of others only what comes
                # counts.
                before = Counts() if model in self._began else counts
            elif counts.requests < before.requests:
                before = Counts()  # it was started again
            history.total = history.total.plus(counts.less(before))
            history.processes[name] = counts
        if fresh and model in self._began:
            history.samples.append((now, Counts()))
        while history.samples and history.samples[-1][0] > now:
            history.samples.pop()  # the clock went back
        history.samples.append((now, history.total))
        if len(history.samples) > KEPT:
            older = history.samples[: KEPT // 2]
            history.samples[: KEPT // 2] = older[::2]

    @staticmethod
    def _between(history: _History, since: datetime, until: datetime) -> Counts:
        before = [counts for at, counts in history.samples if at <= since]
        upto = [counts for at, counts in history.samples if at <= until]
        if not upto:
            return Counts()
        return upto[-1].less(before[-1] if before else Counts())


def read_counts(text: str, version: str) -> Counts:
    """One version's counts of an exposition; other versions in it are not its own.

    Raises:
        ValueError: the text is no exposition.
    """
    from prometheus_client.parser import text_string_to_metric_families

    requests = errors = 0
    upto: dict[float, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("version", version) != version:
                continue
            if sample.name == REQUESTS.name:
                code = int(sample.labels.get("code", "0"))
                requests += int(sample.value)
                errors += int(sample.value) if code >= 500 or code == _NO_SCORE else 0
            elif sample.name == f"{LATENCY.name}_bucket":
                upto[float(sample.labels["le"])] += sample.value
    rising = [0.0, *(upto[edge] for edge in (*LATENCY_BUCKETS, math.inf))]
    return Counts(requests, errors, tuple(int(b - a) for a, b in pairwise(rising)))


def quantile(latency: Sequence[int], share: float) -> float:
    """Seconds, to the upper edge of the bucket it lies in; NaN without requests."""
    total, seen = sum(latency), 0
    if total == 0:
        return math.nan
    for place, count in enumerate(latency):
        seen += count
        if seen >= share * total:
            return (*LATENCY_BUCKETS, 2 * LATENCY_BUCKETS[-1])[place]
    return 2 * LATENCY_BUCKETS[-1]


def _traffic(version: str, counts: Counts) -> Traffic:
    return Traffic(
        version=version,
        requests=counts.requests,
        errors=counts.errors,
        p50_seconds=quantile(counts.latency, 0.5),
        p99_seconds=quantile(counts.latency, 0.99),
        latency=tuple(zip(_EDGES, counts.latency, strict=True)),
    )


def _get(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=SCRAPE_SECONDS) as answer:
            return str(answer.read().decode("utf-8"))
    except urllib.error.URLError as error:
        raise OSError(f"{url} must answer. {error.reason}") from error
