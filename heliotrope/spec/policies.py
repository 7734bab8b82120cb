"""The policies of a spec: what is demanded of data and candidates, and how the loop behaves.

Gates and validation act in the training pipeline. Rollout, monitoring and retraining are read by
the controller; they are parsed and checked here so that a bad one is refused before it is needed.
"""

from datetime import timedelta
from typing import Self

from pydantic import Field, field_validator, model_validator

from heliotrope.spec.base import Duration, Part, format_duration

SHORTEST_WINDOW = timedelta(seconds=1)
"""Of prediction time; statistics are kept a window, so their number is bounded by it."""


class Validation(Part):
    """What the data must be like before anything is trained on it."""

    minimum_rows: int = Field(default=100, ge=1)
    """Fewer mature rows than this is fatal."""
    row_count_drop: float = Field(default=0.5, gt=0, le=1)
    """Fatal when the row count falls by more than this share of the previous snapshot's."""
    label_rate_change: float = Field(default=0.5, gt=0)
    """Warning when the positive rate moves by more than this share of the previous rate, and by
    more than chance allows."""
    drift_effect: float = Field(default=0.1, gt=0, le=1)
    """Smallest distribution change worth reporting: Jensen-Shannon distance for categories,
    Wasserstein over the standard deviation for numbers."""
    scale_change: float = Field(default=10.0, gt=1)
    """Fatal when a column's median magnitude moves by more than this factor: a rescaled column."""
    out_of_bounds_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of rows that may break a bound, category or null rule; such rows are dropped and
    counted. More is fatal."""
    leakage_score: float = Field(default=0.995, gt=0.5, le=1)
    """A single feature whose own ROC AUC against the label reaches this leaks the label: fatal."""


class Gates(Part):
    """What a candidate must show on the holdout before it is registered."""

    enabled: bool = True
    """Gates are on unless a person turns them off, and a report says when they were off."""
    minimum_rows: int = Field(default=200, ge=1)
    """Fewer holdout rows is HOLD."""
    minimum_positives: int = Field(default=20, ge=0)
    """Fewer rows of the rarest class in the holdout is HOLD (classification)."""
    bounds: dict[str, float] = Field(default_factory=dict)
    """Absolute limit a metric: a floor where more is better, a ceiling where less is."""
    margin: float = Field(default=0.0, ge=0)
    """By how much the primary metric must be better than the champion's, on the same rows."""
    tolerance: float = Field(default=0.0, ge=0)
    """By how much it may be worse: a candidate trained on newer data and no worse than this, with
    confidence, passes. 0 demands that it is better by `margin`."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """One-sided confidence of every comparison."""
    beat_baselines: bool = True
    """Whether the primary metric must beat the majority class (and persistence for a stream)."""
    slice_drop: float = Field(default=0.05, ge=0)
    """By how much the primary metric may fall below the champion's within a slice."""
    slice_minimum_rows: int = Field(default=100, ge=1)
    """Slices with fewer rows are reported, not judged."""

    @model_validator(mode="after")
    def _one_demand(self) -> Self:
        if self.margin and self.tolerance:
            raise ValueError(
                f"tolerance|be 0 when margin is set ({self.margin}): better by a margin and "
                f"allowed to be worse contradict each other|{self.tolerance}"
            )
        return self


class Shadow(Part):
    """How a candidate is compared from the log before it answers anybody."""

    enabled: bool = True
    """Whether the rollout starts with a shadow."""
    share: float = Field(default=0.1, gt=0, le=1)
    """Share of logged requests replayed to the candidate."""
    minimum_labels: int = Field(default=200, ge=1)
    """Paired labelled requests before a verdict."""
    backfill: Duration = timedelta(days=7)
    """How far back recent labelled requests are replayed at once."""


class Rollout(Part):
    """How a candidate becomes champion, or does not."""

    shadow: Shadow = Shadow()
    """The shadow phase."""
    steps: tuple[int, ...] = (10, 25, 50, 100)
    """Shares of live traffic, per cent, rising to 100."""
    step_minimum: Duration = timedelta(minutes=10)
    """Shortest stay on a step."""
    step_timeout: Duration = timedelta(days=7)
    """Longest stay on a step without a verdict; then the candidate is rolled back."""
    bake: Duration = timedelta(hours=24)
    """How long the old champion stays warm after promotion."""
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of 5xx answers at which a candidate is rolled back."""
    max_latency_ratio: float = Field(default=2.0, gt=1)
    """p99 latency over the champion's at which it is rolled back."""
    wait: bool = False
    """Whether the training run waits for the rollout's end and shows it."""

    @field_validator("steps")
    @classmethod
    def _steps_rise(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if not steps:
            raise ValueError("name at least one step, ending at 100")
        for index, step in enumerate(steps):
            before = steps[index - 1] if index else 0
            if not 1 <= step <= 100 or step <= before:
                after = f"{step} after {before}" if index else str(step)
                raise ValueError(f"[{index}]|be between 1 and 100 and rise|{after}")
        if steps[-1] != 100:
            raise ValueError(f"[{len(steps) - 1}]|be 100, the last step|{steps[-1]}")
        return steps

    @model_validator(mode="after")
    def _a_step_can_end(self) -> Self:
        shortest, longest = format_duration(self.step_minimum), format_duration(self.step_timeout)
        if self.step_timeout <= self.step_minimum:
            raise ValueError(
                f"step_timeout|be longer than step_minimum ({shortest}): no step could end "
                f"otherwise|{longest}"
            )
        return self


class Monitoring(Part):
    """What is watched once a model is live."""

    window: Duration = timedelta(days=1)
    """Length of a window of prediction time."""
    minimum_rows: int = Field(default=200, ge=1)
    """Rows a window needs before drift is judged."""
    mature_coverage: float = Field(default=0.9, gt=0, le=1)
    """Share of labelled predictions at which a window is mature before the label delay is over."""
    k: int = Field(default=2, ge=1)
    """Drifted windows, of the last `n` and the latest among them, before drift is a cause."""
    n: int = Field(default=3, ge=1)
    """Windows looked back on."""
    false_alarm: float = Field(default=0.01, gt=0, lt=0.5)
    """False drift alarms a window of the whole report, all features together."""
    effect: float = Field(default=0.1, gt=0, le=1)
    """Smallest drift that matters."""
    multivariate: bool = False
    """Whether a classifier that tries to tell live rows from the reference's is asked as well: it
    sees columns that no longer go together as they did, though each is distributed as ever."""
    floor: float | None = None
    """Value of the primary metric below which people are told; none watches only for a fall."""
    fall: float = Field(default=0.05, gt=0)
    """Fall below the champion's accepted level that matters."""
    run_length: int = Field(default=8000, ge=100)
    """Labels between two false accuracy alarms, on average."""

    @field_validator("window")
    @classmethod
    def _window_holds_something(cls, window: timedelta) -> timedelta:
        if window < SHORTEST_WINDOW:
            raise ValueError(f"be {format_duration(SHORTEST_WINDOW)} or longer")
        return window

    @model_validator(mode="after")
    def _k_of_n(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"k|be at most n ({self.n})|{self.k}")
        return self


class Retraining(Part):
    """When the loop may train again."""

    schedule: str | None = None
    """Five-field cron, UTC; none leaves retraining to evidence and people."""
    on_evidence: bool = True
    """Whether drift and accuracy alarms may ask for a retraining."""
    cooldown: Duration = timedelta(hours=6)
    """Shortest time between two runs that evidence started."""
    daily_budget: int = Field(default=3, ge=1, le=100)
    """Most runs a day, whatever asks."""
    minimum_new_labels: int = Field(default=500, ge=0)
    """Mature labels newer than the champion's training data before a retraining is worth it."""
    max_failures: int = Field(default=3, ge=1)
    """Failed candidates in a row before a person is asked."""
    memory_rows: tuple[int, ...] = ()
    """Extra memory lengths, in newest rows, to try beside the whole history."""
    recent_weight: float = Field(default=3.0, ge=1)
    """Weight of recent rows where they are weighted up."""

    @field_validator("schedule")
    @classmethod
    def _five_fields(cls, schedule: str | None) -> str | None:
        if schedule is not None:
            _check_cron(schedule)
        return schedule


_CRON_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 7),
)


def _check_cron(schedule: str) -> None:
    fields = schedule.split()
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError("be a cron line of five fields: minute hour day month weekday")
    for text, (name, low, high) in zip(fields, _CRON_FIELDS, strict=True):
        for part in text.split(","):
            span, _, step = part.partition("/")
            ends = [] if span == "*" else span.split("-", 1)
            numeric = all(end.isdigit() for end in ends) and (step.isdigit() or not step)
            if (
                not numeric
                or (step and int(step) == 0)
                or part.endswith("/")
                or any(not low <= int(end) <= high for end in ends)
                or (len(ends) == 2 and int(ends[0]) > int(ends[1]))
            ):
                raise ValueError(f"have a {name} between {low} and {high}, not {part!r}")
