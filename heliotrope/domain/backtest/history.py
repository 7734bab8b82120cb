"""History as a backtest plays it: rows in the order of time, each with when its label came."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.domain.outcomes import Floats, FloatVector, Mask, Places, Texts, Times
from heliotrope.domain.truth.plan import MISSING, TruthPlan
from heliotrope.errors import UsageError
from heliotrope.spec import FeatureType, ModelSpec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATE_AS_SPEC = "label.delay after each row"
FROM_LOG = "when the collector received each"


@dataclass(frozen=True, eq=False)
class History:
    """Rows of one model, oldest first. What lies ahead of a time must not be looked at from it."""

    at: Times
    """[rows] event time, UTC, not falling."""
    label: FloatVector
    """[rows] place in `spec.classes`, or the number; NaN where no label ever came."""
    told: Times
    """[rows] when the label came; NaT where none did."""
    matrix: npt.NDArray[np.float32]
    """[rows, features] as a model takes them."""
    table: Any
    """`pyarrow.Table`, a column a feature, typed as a predictor logs them."""
    source: str
    """Where it is from, for people."""
    labels_come: str = LATE_AS_SPEC
    """How it is known when labels came, for people."""
    refused: int = 0
    """Rows left out since a predictor would refuse them."""
    served_from: datetime | None = None
    """When the platform answered first, of a log with older rows before it."""

    def __len__(self) -> int:
        return len(self.at)

    @property
    def first(self) -> datetime:
        """Time of the oldest row."""
        return moment(self.at[0])

    @property
    def last(self) -> datetime:
        """Time of the newest row."""
        return moment(self.at[-1])

    def ids(self) -> Texts:
        """[rows] prediction ids, whose order as text is that of time."""
        return np.array([f"{place:09d}/0" for place in range(len(self))], dtype=object)

    def known(self, at: datetime, by: datetime) -> Mask:
        """[rows] those that happened by one time and whose label came by another."""
        return np.asarray((self.at <= stamp(at)) & (self.told <= stamp(by)) & ~np.isnan(self.label))


def moment(at: Any) -> datetime:
    """A `datetime64` as a datetime, UTC.

    >>> moment(np.datetime64("2026-03-01T06:00")).isoformat()
    '2026-03-01T06:00:00+00:00'
    """
    return _EPOCH + timedelta(microseconds=int(np.datetime64(at, "us").astype(np.int64)))


def stamp(at: datetime) -> np.datetime64:
    """A datetime as `datetime64[us]`, UTC."""
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


def slice_codes(spec: ModelSpec, matrix: npt.NDArray[np.float32]) -> dict[str, Places]:
    """[rows] slice codes by feature, as `TruthPlan.axes` numbers them."""
    found: dict[str, Places] = {}
    for axis in TruthPlan.of(spec).axes:
        values = matrix[:, spec.feature_names.index(axis.feature)]
        lost = np.isnan(values)
        if axis.type in (FeatureType.CATEGORY, FeatureType.BOOLEAN):
            codes = np.where(lost, MISSING, values)
        else:
            places = np.searchsorted(np.array(axis.edges), values.astype(np.float64), "right")
            codes = np.where(lost, MISSING, places)
        found[axis.feature] = codes.astype(np.int32)
    return found


@dataclass(frozen=True, eq=False)
class VersionAnswers:
    """What one version says to every row of a history, to each by itself."""

    called: Places
    """[rows] place of the class; 0 for regression."""
    score: FloatVector
    """[rows] of the positive class, of the called class (multiclass), or the value."""
    scores: Floats | None
    """[rows, classes] (multiclass only)."""


def answers_of(spec: ModelSpec, scores: FloatVector) -> VersionAnswers:
    """A model's scores as a predictor logs them."""
    if scores.ndim == 2:
        called = np.argmax(scores, axis=1)
        return VersionAnswers(
            called.astype(np.int32), scores[np.arange(len(scores)), called], scores
        )
    if not spec.classes:
        return VersionAnswers(np.zeros(len(scores), np.int32), scores, None)
    return VersionAnswers((scores >= spec.threshold).astype(np.int32), scores, None)


def start_within(
    spec: ModelSpec,
    first: datetime,
    last: datetime,
    asked: datetime | None,
    served_from: datetime | None = None,
) -> datetime:
    """When the simulation begins; what happened before trains the first model.

    Args:
        spec: says how long a window is; a start of our own is the start of one.
        first: time of the oldest row.
        last: of the newest.
        asked: as asked for; when left out, where the log begins, else after a third of the time.
        served_from: where the log begins.

    Raises:
        UsageError: nothing lies before or after.
    """
    plan = TruthPlan.of(spec)
    third = first + (last - first) / 3
    chosen = asked or plan.window_start(plan.window_of(third) + 1)
    if asked is None and served_from is not None:
        logged = plan.window_start(plan.window_of(served_from))
        chosen = logged if logged > first else chosen
    if not first < chosen < last:
        what = "--start" if asked else "the start, a third of the way and at a window's beginning,"
        raise UsageError(
            f"{what} must lie within the history, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}. "
            f"Got {chosen:%Y-%m-%d %H:%M}."
        )
    return chosen
