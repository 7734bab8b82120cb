"""How a model did on the holdout, beside the champion and the trivial answers."""

from heliotrope.domain.document import Document


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


class Curve(Document):
    """Points of a curve, thinned to at most 200."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    thresholds: tuple[float, ...] = ()


class Evaluation(Document):
    """Everything the gate decides on and the reports show."""

    primary: str
    rows: int
    class_counts: dict[str, int] = {}
    """Holdout rows of each class."""
    metrics: dict[str, MetricValue]
    champion_version: str | None = None
    champion: dict[str, MetricValue] = {}
    """The champion's, on the same rows."""
    difference: Difference | None = None
    """Candidate against champion on the primary metric."""
    champion_error: str | None = None
    """Why the champion could not be scored, where it could not."""
    baselines: dict[str, dict[str, MetricValue]] = {}
    """`majority` (class prior; the mean for regression) and, for streams, `persistence`."""
    baseline_differences: dict[str, Difference] = {}
    slices: tuple[SliceScore, ...] = ()
    roc: Curve | None = None
    precision_recall: Curve | None = None
    calibration: Curve | None = None
    """x mean predicted probability, y observed rate, over equal-count bins."""
    confusion: tuple[tuple[int, ...], ...] = ()
    """Rows are true classes, columns predicted, in `classes` order."""
    classes: tuple[str, ...] = ()
    threshold: float | None = None
