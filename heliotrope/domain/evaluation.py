"""How a model did on the holdout, beside the champion and the trivial answers."""

from datetime import datetime

from pydantic import Field

from heliotrope.domain.document import Document
from heliotrope.domain.row_loss import HoldoutLoss


class MetricValue(Document):
    """A metric with its interval."""

    value: float
    """NaN where it is undefined, such as ROC AUC with one class."""
    low: float
    """Lower end of the 95% bootstrap interval."""
    high: float
    """Upper end."""

    def __str__(self) -> str:
        """Render as `0.713 [0.690, 0.740]`."""
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


class Difference(Document):
    """Candidate minus other on the same rows, signed so that positive is better."""

    value: float
    low: float
    """Lower end of the one-sided paired bootstrap interval at the gate's confidence."""
    high: float
    """Upper end, likewise one-sided."""


class SliceScore(Document):
    """The primary metric within one slice."""

    name: str
    """Such as `grade = C` or `annual_income in [50000, 80000)`."""
    rows: int
    positives: int | None = None
    candidate: MetricValue
    champion: MetricValue | None = None
    difference: Difference | None = None
    note: str | None = None
    """Why there is no difference to judge, where a champion was scored."""


class Curve(Document):
    """Points of a curve, thinned to at most 200."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    thresholds: tuple[float, ...] = ()


class Evaluation(Document):
    """Everything the gate decides on and the reports show."""

    primary: str
    rows: int
    class_counts: dict[str, int] = Field(default_factory=dict)
    """Holdout rows of each class."""
    metrics: dict[str, MetricValue]
    champion_version: str | None = None
    champion: dict[str, MetricValue] = Field(default_factory=dict)
    """The champion's, on the compared rows: the holdout, less the rows it was trained on."""
    difference: Difference | None = None
    """Candidate against champion on the primary metric."""
    champion_error: str | None = None
    """Why the champion could not be scored, where it could not."""
    baselines: dict[str, dict[str, MetricValue]] = Field(default_factory=dict)
    """`majority` (class prior; the mean for regression) and, for streams, `persistence`."""
    baseline_differences: dict[str, Difference] = Field(default_factory=dict)
    slices: tuple[SliceScore, ...] = ()
    roc: Curve | None = None
    precision_recall: Curve | None = None
    calibration: Curve | None = None
    """x mean predicted probability, y observed rate, over equal-count bins."""
    confusion: tuple[tuple[int, ...], ...] = ()
    """Rows are true classes, columns predicted, in `classes` order."""
    classes: tuple[str, ...] = ()
    threshold: float | None = None
    event_from: datetime | None = None
    """Oldest event of the holdout (UTC)."""
    event_to: datetime | None = None
    """Newest event of the holdout (UTC)."""
    resamples: int = 0
    """Bootstrap resamples behind each interval."""
    champion_trained_until: datetime | None = None
    """Newest event the champion was trained on (UTC), where that is known."""
    comparison_rows: int | None = None
    """Holdout rows the champion was not trained on: all that it is compared on."""
    comparison_class_counts: dict[str, int] = Field(default_factory=dict)
    """Those rows by class."""
    watched: HoldoutLoss | None = None
    """What sequential tests will hold live outcomes against."""
    candidate_compared: dict[str, MetricValue] = Field(default_factory=dict)
    """The candidate's metrics on the compared rows, where these are fewer than the holdout."""
