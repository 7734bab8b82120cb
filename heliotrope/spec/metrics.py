"""The metrics a spec may name: for which task, and which way is better."""

from dataclasses import dataclass

from heliotrope.vocabulary import Task


@dataclass(frozen=True)
class MetricInfo:
    """What is known of a metric before any number is computed."""

    name: str
    tasks: frozenset[Task]
    greater_is_better: bool
    low: float | None
    high: float | None
    help: str

    def holds(self, value: float) -> bool:
        """Whether it can take this value."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    @property
    def span(self) -> str:
        """The values it can take, in words."""
        if self.low is None:
            return f"{self.high} or less"
        return f"{self.low} or more" if self.high is None else f"between {self.low} and {self.high}"


_CLASSES = frozenset({Task.BINARY, Task.MULTICLASS})
_BINARY = frozenset({Task.BINARY})
_NUMBER = frozenset({Task.REGRESSION})

METRICS: dict[str, MetricInfo] = {
    metric.name: metric
    for metric in (
        MetricInfo("accuracy", _CLASSES, True, 0, 1, "share of right answers"),
        MetricInfo("balanced_accuracy", _CLASSES, True, 0, 1, "mean recall over the classes"),
        MetricInfo("f1", _CLASSES, True, 0, 1, "F1 of the positive class; macro for multiclass"),
        MetricInfo("precision", _BINARY, True, 0, 1, "right among those called positive"),
        MetricInfo("recall", _BINARY, True, 0, 1, "found among the positive"),
        MetricInfo(
            "recall_at_precision",
            _BINARY,
            True,
            0,
            1,
            "largest recall at a precision of at least 0.5",
        ),
        MetricInfo(
            "roc_auc",
            _CLASSES,
            True,
            0,
            1,
            "chance that a positive scores above a negative; macro one-vs-rest",
        ),
        MetricInfo("average_precision", _BINARY, True, 0, 1, "area under precision-recall"),
        MetricInfo("log_loss", _CLASSES, False, 0, None, "mean negative log-likelihood, nats"),
        MetricInfo("brier", _BINARY, False, 0, 1, "mean squared error of the probability"),
        MetricInfo(
            "calibration_error",
            _BINARY,
            False,
            0,
            1,
            "expected calibration error over ten equal-count bins",
        ),
        MetricInfo("mae", _NUMBER, False, 0, None, "mean absolute error, in the label's unit"),
        MetricInfo("rmse", _NUMBER, False, 0, None, "root mean squared error, label's unit"),
        MetricInfo("r2", _NUMBER, True, None, 1, "share of the variance explained"),
    )
}


def metrics_for(task: Task) -> list[str]:
    """Names of the metrics that fit a task, in catalogue order."""
    return [name for name, metric in METRICS.items() if task in metric.tasks]
