"""A model's truth as metrics: the newest window that may be judged on, of each version and role."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from heliotrope.domain.truth.cell import CellKey
from heliotrope.domain.truth.documents import Maturity, WindowTruth
from heliotrope.domain.truth.plan import WHOLE
from heliotrope.service.truth_book import TruthBook
from heliotrope.spec import ModelSpec
from heliotrope.spec.metrics import METRICS
from heliotrope.telemetry import controller_metrics as metrics
from heliotrope.telemetry.board import Board, Labels
from heliotrope.telemetry.metric import Metric

KEPT_WINDOWS = 30
"""A version that predicted nothing for so many windows after its last one could mature is no
longer exported, so that series do not pile up over the years; the newest champion stays."""
_Version = tuple[str, str]


@dataclass
class _Newest:
    """The windows that one version's numbers are of."""

    last: CellKey
    over: CellKey | None = None
    """The newest that is over."""
    settled: CellKey | None = None
    """The newest that is mature, or whose label delay has passed without a label."""
    mature: CellKey | None = None
    slices: list[CellKey] = field(default_factory=list)
    """Of the mature one."""

    def wanted(self) -> Iterator[CellKey]:
        """All that is asked for."""
        yield from (key for key in (self.over, self.settled, self.mature) if key is not None)
        yield from self.slices


def export_promises(spec: ModelSpec, board: Board) -> None:
    """State what the spec promises and demands, for rules to compare with."""
    name, primary = spec.name, spec.metrics.primary
    if spec.monitoring.floor is not None:
        board.set(metrics.METRIC_FLOOR, spec.monitoring.floor, name, primary)
    board.set(metrics.METRIC_FALL, spec.monitoring.fall, name, primary)
    better = float(METRICS[primary].greater_is_better)
    board.set(metrics.METRIC_GREATER_IS_BETTER, better, name, primary)
    board.set(metrics.LABEL_DELAY_PROMISED, spec.label.delay.total_seconds(), name)
    board.set(metrics.LABEL_COVERAGE_EXPECTED, spec.monitoring.mature_coverage, name)


def export_truth(book: TruthBook, board: Board, now: datetime) -> None:
    """State every series of a model's truth; those of versions that are gone vanish.

    Args:
        book: of the model, refreshed.
        board: the controller's.
        now: UTC; decides maturity.
    """
    found = _kept(book, _newest(book, now), now)
    picked = book.of_keys(now, (key for one in found.values() for key in one.wanted()))
    series = _Series(book.plan.model, board)
    for version, newest in found.items():
        if newest.mature is not None:
            series.mature(version, picked[newest.mature])
            for key in newest.slices:
                series.metrics(version, picked[key])
        if newest.settled is not None:
            series.settled(version, picked[newest.settled])
        if newest.over is not None:
            series.estimates(version, picked[newest.over])
    series.state()
    for version, (_, labelled, right) in book.totals().items():
        if version not in found:
            continue
        board.raise_to(metrics.LABELLED_PREDICTIONS, labelled, book.plan.model, *version)
        if right is not None:
            board.raise_to(metrics.CORRECT_PREDICTIONS, right, book.plan.model, *version)


def _newest(book: TruthBook, now: datetime) -> dict[_Version, _Newest]:
    found: dict[_Version, _Newest] = {}
    for key, part in book.newest_first():
        if key.axis != WHOLE:
            continue
        one = found.setdefault((key.version, key.role), _Newest(key))
        if one.mature is not None:
            continue
        grown = book.maturity(key, part, now)
        if grown in (Maturity.OPEN, Maturity.FUTURE):
            continue
        one.over = one.over or key
        if grown.mature or grown is Maturity.UNLABELLED:
            one.settled = one.settled or key
        if grown.mature:
            one.mature = key
    for key, _ in book.newest_first():
        newest = found.get((key.version, key.role))
        mature = None if newest is None else newest.mature
        if newest is not None and mature is not None and key.axis != WHOLE:
            newest.slices += [key] if key.window == mature.window else []
    return found


def _kept(
    book: TruthBook, found: dict[_Version, _Newest], now: datetime
) -> dict[_Version, _Newest]:
    plan = book.plan
    back = timedelta(microseconds=plan.delay_us + KEPT_WINDOWS * plan.window_us)
    first = plan.window_of(now - back)
    champions = [one.last for (_, role), one in found.items() if role == "champion"]
    last = max(champions, default=None)
    return {
        version: one
        for version, one in found.items()
        if one.last.window >= first or one.last == last
    }


class _Series:
    """Gathers the series of a model, to state them all at once."""

    _GAUGES = (
        metrics.MODEL_ACCURACY, metrics.TRUTH_METRIC, metrics.TRUTH_METRIC_LOW,
        metrics.TRUTH_METRIC_HIGH, metrics.TRUTH_COVERAGE, metrics.TRUTH_WINDOW_PREDICTIONS,
        metrics.TRUTH_WINDOW_LABELLED, metrics.TRUTH_WINDOW_END, metrics.TRUTH_LABEL_DELAY,
        metrics.TRUTH_ESTIMATE, metrics.TRUTH_ESTIMATE_LOW, metrics.TRUTH_ESTIMATE_HIGH,
        metrics.TRUTH_ESTIMATE_UNRELIABLE,
    )  # fmt: skip

    def __init__(self, model: str, board: Board) -> None:
        self._model, self._board = model, board
        self._values: dict[str, dict[Labels, float]] = {one.name: {} for one in self._GAUGES}

    def _set(self, metric: Metric, value: float, *labels: str) -> None:
        if math.isfinite(value):
            self._values[metric.name][(self._model, *labels)] = value

    def mature(self, version: _Version, window: WindowTruth) -> None:
        """What a window says that may be judged on."""
        if window.correct is not None and window.labelled:
            self._set(metrics.MODEL_ACCURACY, window.correct / window.labelled, *version)
        self.metrics(version, window)
        if window.delay is not None:
            delay = window.delay
            for quantile, value in (("0.5", delay.p50), ("0.9", delay.p90), ("0.99", delay.p99)):
                self._set(metrics.TRUTH_LABEL_DELAY, value, *version, quantile)

    def metrics(self, version: _Version, window: WindowTruth) -> None:
        """The spec's metrics of a window or slice."""
        for name, metric in window.metrics.items():
            labels = (*version, window.slice or "", name)
            self._set(metrics.TRUTH_METRIC, metric.value, *labels)
            self._set(metrics.TRUTH_METRIC_LOW, metric.low, *labels)
            self._set(metrics.TRUTH_METRIC_HIGH, metric.high, *labels)

    def settled(self, version: _Version, window: WindowTruth) -> None:
        """How much of a window has labels, now that they should be there."""
        self._set(metrics.TRUTH_COVERAGE, window.coverage, *version)
        self._set(metrics.TRUTH_WINDOW_PREDICTIONS, window.predicted, *version)
        self._set(metrics.TRUTH_WINDOW_LABELLED, window.labelled, *version)
        self._set(metrics.TRUTH_WINDOW_END, window.window_to.timestamp(), *version)

    def estimates(self, version: _Version, window: WindowTruth) -> None:
        """What scores promise of a window."""
        for name, one in window.estimate.items():
            self._set(metrics.TRUTH_ESTIMATE, one.value, *version, name)
            self._set(metrics.TRUTH_ESTIMATE_LOW, one.low, *version, name)
            self._set(metrics.TRUTH_ESTIMATE_HIGH, one.high, *version, name)
            self._set(metrics.TRUTH_ESTIMATE_UNRELIABLE, float(one.unreliable), *version, name)

    def state(self) -> None:
        """Put all of them on the board."""
        for metric in self._GAUGES:
            self._board.replace_where(metric, self._model, self._values[metric.name])
