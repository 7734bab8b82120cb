"""Accuracy alarms, purely: what labelled outcomes say of a model against what was accepted.

The target is the level that was accepted first. A retraining does not move it; a new champion is
judged by it, on its own outcomes only.
"""

import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np

from heliotrope.domain.document import Document
from heliotrope.domain.outcomes import FloatVector, Times
from heliotrope.domain.row_loss import LossKind
from heliotrope.domain.sequential.betting import BettingTest, Capital, Side
from heliotrope.domain.sequential.charts import Charted, ErrorCharts
from heliotrope.domain.sequential.design import LEAST_BASE, ErrorBase, ErrorDesign, design
from heliotrope.domain.sequential.e_detector import Detected, EDetector
from heliotrope.domain.truth.intervals import mean, share

BASE_ROWS = 500
"""Labelled rows behind an accepted level that is learnt from the first champion's outcomes."""
MATTERS = 0.1
"""Of the accepted mean loss: a rise that matters, where the spec's is of a metric that is no mean
of losses."""
OVER = 0.05
"""An alarm is over when outcomes since show it at this error, under continuous looking."""


class AlarmKind(StrEnum):
    """What is wrong."""

    FALL = "accuracy_fall"
    """Outcomes are worse than what was accepted."""
    FLOOR = "accuracy_floor"
    """Outcomes are worse than the spec's floor."""


class LossBase(Document):
    """What was accepted: the mean loss of a model that is well."""

    rows: int
    total: float
    squares: float
    source: str
    """Where it was measured."""

    @property
    def mean(self) -> float:
        """The mean loss."""
        return self.total / self.rows

    @property
    def spread(self) -> float:
        """Standard deviation of a row's loss."""
        return math.sqrt(max(self.squares / self.rows - self.mean**2, 0.0))


class Raised(Document):
    """An alarm that is on."""

    since: datetime
    """When the first of the worse outcomes was predicted, as far as can be told."""
    noticed: int
    """Labelled rows between then and the alarm."""
    window: datetime
    """Start of the window whose outcomes raised it."""
    value: float
    """Mean loss of the rows since, of this window."""
    low: float
    high: float
    rows: int
    capital: dict[str, list[Any]]
    """Memory of the test that says when it is over."""


class Watch(Document):
    """Detector of one kind on one stream of losses, with all it remembers."""

    kind: AlarmKind
    loss: LossKind
    bound: float
    """Mean loss up to which nothing is wrong (charts: that of a model that is well)."""
    over: float
    """Mean loss below which an alarm is over."""
    run_length: float
    """Labelled rows between two false alarms."""
    design: ErrorDesign | None = None
    """The charts, where errors are counted; the e-detector watches other losses."""
    memory: dict[str, list[Any]]
    seen: int = 0
    """Rows since it began."""
    since_at: tuple[datetime | None, ...]
    """When each of its candidates for a change was predicted."""
    raised: Raised | None = None

    def promises(self) -> dict[str, float]:
        """Delay and false alarms, in labelled rows, for logs."""
        if self.design is None:
            return {"run_length_at_least": self.run_length}
        half, most = self.design.stated_delay()
        return {
            "run_length": round(self.design.stated_run_length()),
            "rise": self.design.rise,
            "delay_p50": half,
            "delay_p95": most,
        }


def error_watch(base: ErrorBase, fall: float, run_length: float) -> Watch:
    """Charts of errors, against a rise of the accepted error rate by `fall`."""
    made = design(base, fall, run_length)
    rate = min(max(base.rate, LEAST_BASE), 0.95)
    charts = ErrorCharts(made.charts)
    return Watch(
        kind=AlarmKind.FALL, loss=LossKind.ERROR, bound=rate, over=_inside(rate + fall),
        run_length=run_length, design=made, memory=charts.start().to_json(),
        since_at=(None,) * len(made.heights),
    )  # fmt: skip


def loss_watch(
    kind: AlarmKind, loss: LossKind, bound: float, over: float, run_length: float
) -> Watch:
    """An e-detector of any loss, against a mean above `bound`."""
    detector = EDetector(np.array([_inside(bound)]), run_length)
    start = detector.start()
    return Watch(
        kind=kind, loss=loss, bound=_inside(bound), over=_inside(over), run_length=run_length,
        memory=start.to_json(), since_at=(None,) * start.since.shape[1],
    )  # fmt: skip


def tolerated(base: LossBase, fall: float | None) -> tuple[float, float]:
    """Mean losses up to which nothing is wrong, and below which an alarm is over.

    Args:
        base: what was accepted.
        fall: the rise that matters, as a loss; None takes a tenth of the base.
    """
    rise = MATTERS * base.mean if fall is None else fall
    # The base itself was measured on finitely many rows.
    unsure = 1.645 * base.spread / math.sqrt(base.rows)
    return base.mean + max(unsure, rise / 2), base.mean + max(2 * unsure, rise)


def afresh(watch: Watch) -> Watch:
    """The watch without evidence; its target stays."""
    if watch.design is not None:
        memory = ErrorCharts(watch.design.charts).start().to_json()
    else:
        memory = EDetector(np.array([watch.bound]), watch.run_length).start().to_json()
    return watch.model_copy(
        update={
            "memory": memory,
            "seen": 0,
            "raised": None,
            "since_at": (None,) * len(watch.since_at),
        }
    )


def feed(watch: Watch, losses: FloatVector, at: Times, window: datetime) -> Watch:
    """The watch after a window's outcomes.

    An alarm that is on is looked at for its end; the detector begins anew after it.

    Args:
        watch: before.
        losses: [rows] in order of time.
        at: [rows] when they were predicted.
        window: its start.
    """
    if len(losses) == 0:
        return watch
    if watch.raised is not None:
        return _relieved(watch, watch.raised, losses)
    state = _updated(watch, losses)
    dates = _dates(watch, state, at)
    place = int(state.first[0]) - watch.seen
    kept = watch.model_copy(
        update={
            "memory": state.to_json(),
            "seen": watch.seen + len(losses),
            "since_at": dates,
        }
    )
    if place <= 0:
        return kept
    changed = int(state.changed[0])
    start = max(changed - watch.seen, 0)
    since = at[min(start, len(at) - 1)].astype("datetime64[us]")
    before = _date_of(watch, changed)
    value, low, high = interval(watch.loss, losses[start:])
    test = BettingTest(np.array([watch.over]), Side.BELOW)
    raised = Raised(
        since=before or _utc(since), noticed=int(state.first[0]) - changed, window=window,
        value=value, low=low, high=high, rows=len(losses) - start,
        capital=test.update(test.start(), losses[place:]).to_json(),
    )  # fmt: skip
    return kept.model_copy(update={"raised": raised})


def _relieved(watch: Watch, raised: Raised, losses: FloatVector) -> Watch:
    test = BettingTest(np.array([watch.over]), Side.BELOW)
    capital = test.update(Capital.from_json(raised.capital), losses)
    if test.log_e(capital)[0] >= math.log(1 / OVER):
        return afresh(watch)
    value, low, high = interval(watch.loss, losses)
    return watch.model_copy(
        update={
            "raised": raised.model_copy(
                update={
                    "capital": capital.to_json(),
                    "value": value,
                    "low": low,
                    "high": high,
                    "rows": len(losses),
                }
            )
        }
    )


def _updated(watch: Watch, losses: FloatVector) -> Charted | Detected:
    if watch.design is not None:
        charts = ErrorCharts(watch.design.charts)
        return charts.update(Charted.from_json(watch.memory), losses.astype(np.int64))
    detector = EDetector(np.array([watch.bound]), watch.run_length)
    return detector.update(Detected.from_json(watch.memory), losses)


def _dates(watch: Watch, state: Charted | Detected, at: Times) -> tuple[datetime | None, ...]:
    """When the row behind each candidate for a change was predicted."""
    found = []
    for place, since in enumerate(state.since.ravel().tolist()):
        row = since - watch.seen
        known = watch.since_at[place]
        # A candidate older than this window has its date; one at its very end gets the last row's.
        found.append(known if row < 0 else _utc(at[min(row, len(at) - 1)]))
    return tuple(found)


def _date_of(watch: Watch, changed: int) -> datetime | None:
    if changed >= watch.seen:
        return None
    old = (Charted if watch.design is not None else Detected).from_json(watch.memory)
    places = np.flatnonzero(old.since.ravel() == changed)
    return watch.since_at[int(places[0])] if len(places) else None


def interval(kind: LossKind, losses: FloatVector) -> tuple[float, float, float]:
    """Mean loss and its 95% interval, of one look."""
    value = float(losses.mean())
    if kind is LossKind.ERROR:
        found = share(value, len(losses))
    else:
        found = mean(value, float((losses**2).mean()), len(losses))
    return value, found.low, found.high


def _utc(at: Any) -> datetime:
    return datetime.fromtimestamp(int(at.astype("datetime64[us]").astype(np.int64)) / 1e6, UTC)


def _inside(value: float) -> float:
    return float(min(max(value, 1e-4), 0.999))
