"""The truth of a window, as the command line prints it and the controller exports it."""

from datetime import datetime
from enum import StrEnum

from heliotrope.domain.document import Document
from heliotrope.domain.evaluation import MetricValue


class Maturity(StrEnum):
    """Whether a window's numbers may be judged on."""

    FUTURE = "future"
    """It begins after now: a clock somewhere is wrong."""
    OPEN = "open"
    """It is not over; predictions still come."""
    MATURING = "maturing"
    """It is over, and labels still come: those so far may be biased."""
    BY_COVERAGE = "mature_by_coverage"
    """It is over and enough of its predictions have labels."""
    BY_DELAY = "mature_by_delay"
    """The label delay has passed since its end."""
    UNLABELLED = "unlabelled"
    """The label delay has passed since its end and no label came: there is nothing to judge on."""

    @property
    def mature(self) -> bool:
        """Whether gates, alarms and training may use the window."""
        return self in (Maturity.BY_COVERAGE, Maturity.BY_DELAY)


class DelayQuantiles(Document):
    """How long labels took from the prediction on, of those that came; seconds."""

    p50: float
    p90: float
    p99: float


class Estimate(Document):
    """A metric as the scores alone promise it, labels unseen."""

    value: float
    low: float
    """The value less sampling error (95%) and calibration error."""
    high: float
    unreliable: bool
    """Mature labels contradict what the scores promise; see `heliotrope.domain.estimate`."""


class WindowTruth(Document):
    """One window of prediction time, of one version in one role, whole or one slice of it."""

    model: str
    version: str
    role: str
    slice: str | None
    """Such as `grade = C`; None for the whole window."""
    window_from: datetime
    """Inclusive, UTC."""
    window_to: datetime
    """Exclusive, UTC."""
    predicted: int
    labelled: int
    unjudged: int
    """Predictions whose score is missing, not finite or no probability; they never count as
    labelled."""
    coverage: float
    """labelled / predicted."""
    correct: int | None
    """Labelled predictions that were right; None for regression."""
    class_counts: dict[str, int]
    """Labels of each class; empty for regression."""
    primary: str
    metrics: dict[str, MetricValue]
    """The spec's metrics over the labelled predictions, with 95% intervals; NaN where undefined."""
    binning_error: float
    """Most by which the ROC AUC can differ from one over unbinned scores; 0 where none is taken."""
    delay: DelayQuantiles | None
    """None until a label came."""
    maturity: Maturity
    estimate: dict[str, Estimate]
    """By metric, for those that scores can promise; none for regression."""


class FoldedEstimate(Document):
    """An estimate before it is known how well the scores are calibrated."""

    value: float
    low: float
    """With sampling error only."""
    high: float
    sensitivity: float
    """By how much the value moves for each unit of calibration error."""


class Folded(Document):
    """All that depends on a cell alone: stored beside it, so that reading is cheap."""

    predicted: int
    labelled: int
    unjudged: int
    correct: int | None
    """Labelled rows that were right; None for regression."""
    class_counts: dict[str, int]
    metrics: dict[str, MetricValue]
    binning_error: float
    delay: DelayQuantiles | None
    estimate: dict[str, FoldedEstimate]
    calibration_gaps: tuple[float, ...]
    """Of the labelled rows in ten groups by rising score, positives expected less those that came;
    empty without labels."""
    log_evidence: float
    """Logarithm of the e-value against calibrated scores; 0 without labels."""
