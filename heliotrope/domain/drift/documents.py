"""What a drift report says, as the controller keeps it and reports show it."""

import math
from datetime import datetime

from pydantic import Field

from heliotrope.domain.document import Document
from heliotrope.domain.quality import Finding, Level
from heliotrope.spec import ModelSpec
from heliotrope.vocabulary import Verdict, worst

SCORE = "prediction"
"""How the model's answers are called among the columns of a report."""


class DriftRule(Document):
    """What is demanded before drift is called."""

    false_alarm: float = 0.01
    """Chance of a false call a window, of the whole report."""
    effect: float = 0.1
    """Smallest change that matters."""
    minimum_rows: int = 200
    """Fewer rows are not judged."""
    scale_change: float = 10.0
    """Factor from which a column counts as rescaled."""
    out_of_bounds_share: float = 0.0
    """Share of rows that may break a bound or category."""
    multivariate: bool = False
    """Whether a classifier that tells reference rows from live ones is asked as well."""

    @classmethod
    def of(cls, spec: ModelSpec) -> "DriftRule":
        """What a spec demands."""
        watched = spec.monitoring
        return cls(
            false_alarm=watched.false_alarm,
            effect=watched.effect,
            minimum_rows=watched.minimum_rows,
            scale_change=spec.validation.scale_change,
            out_of_bounds_share=spec.validation.out_of_bounds_share,
            multivariate=watched.multivariate,
        )


class ColumnDrift(Document):
    """One column of a report."""

    column: str
    """A feature, `prediction` for the scores, `rows` for the classifier."""
    verdict: Verdict
    """FAIL moved; HOLD may have moved and cannot be told from chance; ERROR could not be scored."""
    method: str
    """`wasserstein`, `jensenshannon` or `classifier`."""
    effect: float
    """The distance; NaN where it could not be scored."""
    p: float
    """Chance of a change so large without drift; NaN where it could not be scored."""
    budget: float
    """What `p` must be below."""
    weight: float
    """Share of the model's reliance on it."""
    rows_needed: int | None = None
    """For HOLD: rows at which a change as large would be beyond chance; None where none would."""
    text: str
    """In words, with the numbers."""


class DriftReport(Document):
    """One window against the reference."""

    model: str
    version: str
    window_from: datetime | None
    """UTC, inclusive."""
    window_to: datetime | None
    """Exclusive."""
    rows: int
    reference_rows: int
    rule: DriftRule
    verdict: Verdict
    """Of drift alone. PASS nothing moved that matters; HOLD too little to say; FAIL drifted; ERROR
    a column could not be scored and none that could has drifted."""
    reason: str
    """Why, in one sentence with numbers."""
    score: float
    """Mean distance of the features, weighted by importance; 0 is none."""
    columns: tuple[ColumnDrift, ...]
    """Features in the spec's order, then the prediction."""
    faults: tuple[Finding, ...] = ()
    """What is wrong with the data, worst first."""
    scored: int
    """Columns that could be scored."""
    expected: int
    """Columns that should have been."""
    smallest_shift: float = Field(ge=0)
    """The smallest shift of one bell-shaped feature of mean weight, in standard deviations, that
    so many rows show four times in five."""
    sampled_from: int | None = None
    """Rows of the window, where only a sample was scored."""

    @property
    def sampling_error(self) -> float | None:
        """By how much any share or cumulative share of a column's values may differ between the
        scored sample and the window, 99 times in 100; None where all rows were scored.

        Dvoretzky, Kiefer and Wolfowitz with Massart's constant, whatever the distribution; a sample
        without replacement is nearer still.
        """
        if self.sampled_from is None or not self.rows:
            return None
        return math.sqrt(math.log(2 / 0.01) / (2 * self.rows))

    @property
    def fatal(self) -> tuple[Finding, ...]:
        """Faults that a person must mend."""
        return tuple(f for f in self.faults if f.level is Level.FATAL)

    @property
    def data_verdict(self) -> Verdict:
        """FAIL with a fatal fault, HOLD without rows, else PASS."""
        if self.fatal:
            return Verdict.FAIL
        return Verdict.PASS if self.rows else Verdict.HOLD

    @property
    def overall(self) -> Verdict:
        """The worse of both."""
        return worst([self.verdict, self.data_verdict])

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        """Columns that moved, those that matter most first."""
        moved = (c for c in self.columns if c.verdict is Verdict.FAIL)
        return tuple(sorted(moved, key=lambda c: (-c.weight * c.effect, c.column)))

    def column(self, name: str) -> ColumnDrift | None:
        """One column."""
        return next((column for column in self.columns if column.column == name), None)


class DriftState(Document):
    """Verdicts on the newest windows of a model, as the controller remembers them."""

    model: str
    version: str
    windows: tuple["PastVerdict", ...] = ()
    """Oldest first, at most 50."""
    called: bool = False
    """Whether drift is called: K of the last N windows and the latest of them."""


class PastVerdict(Document):
    """One window's outcome."""

    window_from: datetime
    window_to: datetime
    verdict: Verdict
    faulty: bool
    """Whether the data had a fatal fault; such a window never counts as drifted."""
    score: float
    rows: int
    judged: bool
    """Whether there were rows enough to judge; a HOLD on enough rows counts as not drifted."""
