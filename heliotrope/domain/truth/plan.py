"""What of a spec the truth depends on, resolved once to columns, codes and microseconds."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from heliotrope.domain.events import FEATURE_PREFIX
from heliotrope.spec import Feature, FeatureType, ModelSpec
from heliotrope.vocabulary import Task

FORMAT = 3
"""Raised when stored window statistics could no longer be read."""
BINS = 2000
"""Score bins of a window."""
SLICE_BINS_EACH = 4
"""Neighbouring score bins that a slice keeps as one: its rows are fewer, so its error is no larger
beside its own interval, and the state is a quarter the size."""
MISSING = -1
"""Code of a slice whose feature is missing."""
WHOLE = -1
"""Axis of a window's rows that are not cut into slices."""
ORIGIN = datetime(1970, 1, 5, tzinfo=UTC)
"""Windows start a whole number of lengths from this Monday, so a week's starts on Monday and a
day's at midnight, UTC."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ORIGIN_US = (ORIGIN - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class SliceAxis:
    """One feature that cuts a window into slices; every row falls into exactly one."""

    feature: str
    type: FeatureType
    categories: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    """Rounded to float32, which is what features are logged and trained in."""

    @property
    def column(self) -> str:
        """The feature's column in the predictions table."""
        return FEATURE_PREFIX + self.feature

    def name(self, code: int) -> str:
        """The slice of a code, spelled as evaluation reports spell it."""
        if code == MISSING:
            return f"{self.feature} missing"
        if self.type is FeatureType.CATEGORY:
            return f"{self.feature} = {self.categories[code]}"
        if self.type is FeatureType.BOOLEAN:
            return f"{self.feature} = {'true' if code else 'false'}"
        if code == 0:
            return f"{self.feature} < {self.edges[0]:g}"
        if code == len(self.edges):
            return f"{self.feature} >= {self.edges[-1]:g}"
        return f"{self.feature} in [{self.edges[code - 1]:g}, {self.edges[code]:g})"


@dataclass(frozen=True)
class TruthPlan:
    """All that the queries and the folding need to know of a model."""

    model: str
    task: Task
    classes: tuple[str, ...]
    """Class names in score order; empty for regression."""
    other_is_negative: bool
    """Binary labels whose negative class has no name: whatever is not the positive is negative."""
    threshold: float
    window_us: int
    """Length of a window, microseconds."""
    axes: tuple[SliceAxis, ...]
    metrics: tuple[str, ...]
    """The primary first."""
    greater_is_better: bool
    delay_us: int
    """After this long past its end a window is mature."""
    mature_coverage: float
    horizon_us: int
    """A prediction older than this is forgotten: what comes for it restates nothing."""

    @classmethod
    def of(cls, spec: ModelSpec) -> "TruthPlan":
        """The plan of a spec."""
        from heliotrope.spec.metrics import METRICS

        by_name = {feature.name: feature for feature in spec.features}
        return cls(
            model=spec.name,
            task=spec.task,
            classes=tuple(spec.classes),
            other_is_negative=spec.task is Task.BINARY
            and spec.label.negative is None
            and spec.classes[0] == f"not {spec.classes[1]}",
            threshold=spec.threshold,
            window_us=spec.monitoring.window // timedelta(microseconds=1),
            axes=tuple(_axis(by_name[part.feature], part.bins) for part in spec.slices),
            metrics=spec.metrics.names,
            greater_is_better=METRICS[spec.metrics.primary].greater_is_better,
            delay_us=spec.label.delay // timedelta(microseconds=1),
            mature_coverage=spec.monitoring.mature_coverage,
            horizon_us=spec.label.restated_for // timedelta(microseconds=1),
        )

    @property
    def primary(self) -> str:
        """The metric that decides."""
        return self.metrics[0]

    @property
    def slice_columns(self) -> tuple[str, ...]:
        """Columns that hold a row's slice codes."""
        return tuple(f"slice_{place}" for place in range(len(self.axes)))

    @property
    def score_columns(self) -> tuple[str, ...]:
        """Columns that hold every class's score (multiclass only)."""
        if self.task is not Task.MULTICLASS:
            return ()
        return tuple(f"score_{place}" for place in range(len(self.classes)))

    @property
    def fingerprint(self) -> str:
        """Changes whenever stored statistics would have to be computed anew."""
        parts = [FORMAT, BINS, self.task, self.classes, self.other_is_negative, self.threshold]
        axes = [[a.feature, a.type, a.categories, a.edges] for a in self.axes]
        text = json.dumps([parts, axes, self.window_us, self.metrics])
        return hashlib.sha256(text.encode()).hexdigest()

    def window_start(self, window: int) -> datetime:
        """Start of a window by its number (UTC)."""
        return _EPOCH + timedelta(microseconds=ORIGIN_US + window * self.window_us)

    def window_of(self, at: datetime) -> int:
        """Number of the window that holds a time."""
        return (micros_of(at) - ORIGIN_US) // self.window_us

    def slice_name(self, axis: int, code: int) -> str | None:
        """Name of a slice; None for the whole window."""
        return None if axis == WHOLE else self.axes[axis].name(code)


def micros_of(at: datetime) -> int:
    """Microseconds since 1970 of a time in UTC."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def _axis(feature: Feature, bins: tuple[float, ...] | None) -> SliceAxis:
    return SliceAxis(
        feature=feature.name,
        type=feature.type,
        categories=feature.categories or (),
        edges=tuple(float(np.float32(edge)) for edge in bins or ()),
    )
