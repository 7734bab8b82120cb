"""What a backtest found, as a document."""

from datetime import datetime, timedelta

from heliotrope.domain.backtest.policy import PolicyKind
from heliotrope.domain.document import Document


class DayPoint(Document):
    """One window of event time as it turned out: all labels known, whichever version answered."""

    start: datetime
    rows: int
    """Answered rows whose label came, ever."""
    value: float
    """Of the primary metric; NaN where undefined."""
    low: float
    high: float
    missed: bool
    """Worse than accepted by more than matters, and by more than chance allows."""


class AlarmEpisode(Document):
    """A time in which an accuracy alarm was on."""

    raised: datetime
    ended: datetime | None
    """None where it was on to the end."""
    true: bool
    """Whether something was wrong; `BacktestReport.judged_by` says how that is known."""
    text: str


class Detection(Document):
    """How soon a change was called."""

    change: datetime
    called: datetime | None
    """The first true alarm from then on; None where there was none before the next change."""
    labels: int | None
    """Labels of rows since the change that had come by then."""
    recovered: datetime | None
    """When the metric was back for good: two windows that do not miss the target. None where it
    never was, or was never missed."""
    harmed: bool
    """Whether the target was missed at all."""

    @property
    def delay(self) -> timedelta | None:
        """From the change to the alarm."""
        return None if self.called is None else self.called - self.change

    @property
    def recovery(self) -> timedelta | None:
        """From the change to when it was back."""
        return None if self.recovered is None else self.recovered - self.change


class Event(Document):
    """Something that a policy did."""

    at: datetime
    kind: str
    """`alarm`, `drift`, `diagnosis`, `trigger`, `run`, `promotion` or `rollback`."""
    text: str


class PolicyResult(Document):
    """One policy's outcome."""

    name: str
    kind: PolicyKind
    alarms: tuple[AlarmEpisode, ...]
    detections: tuple[Detection, ...]
    drift_calls: int
    """Windows at which drift was called, K of the last N."""
    retrainings: int
    registered: int
    """Of those, the ones that gave a candidate."""
    promotions: int
    rollbacks: int
    """Candidates that were tried and taken back, or given up."""
    value: float
    """The primary metric over all rows of the simulation."""
    value_after: float | None
    """The same since the first change; None without one."""
    wrong: int | None
    """Rows that were answered wrongly; None for regression."""
    missed_windows: int
    points: tuple[DayPoint, ...]
    events: tuple[Event, ...]
    seconds: float
    """What simulating it took."""

    @property
    def true_alarms(self) -> int:
        """Alarms with a cause."""
        return sum(one.true for one in self.alarms)

    @property
    def false_alarms(self) -> int:
        """Alarms without."""
        return len(self.alarms) - self.true_alarms


class BacktestReport(Document):
    """All policies on one history."""

    model: str
    primary: str
    source: str
    rows: int
    """Of the simulation; those before it trained the first model."""
    unlabelled: int
    """Of these, the ones whose label never came: answered, and never judged."""
    trained_on: int
    refused: int
    start: datetime
    end: datetime
    tick: timedelta
    seed: int
    labels_come: str
    accepted: float
    """The level that the first model was accepted at."""
    fall: float
    """What below it matters (`monitoring.fall` of the spec)."""
    changes: tuple[datetime, ...]
    judged_by: str
    """How it is known which alarms were true."""
    policies: tuple[PolicyResult, ...]
