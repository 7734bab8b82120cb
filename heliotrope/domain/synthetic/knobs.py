"""What can be asked of the loan generator, as frozen values that refuse nonsense."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from heliotrope.errors import UsageError


def must(holds: bool, field: str, what: str, got: object) -> None:
    """Raise UsageError, saying what a knob must be and what was got, unless it holds."""
    if not holds:
        raise UsageError(f"{field} must {what}. Got {got}.")


def _naive(field: str, moment: datetime) -> None:
    must(moment.tzinfo is None, field, "be in UTC, without a time zone", moment.isoformat())


def _in_order(start: datetime | None, until: datetime | None) -> None:
    for field, moment in (("start", start), ("until", until)):
        if moment is not None:
            _naive(field, moment)
    if start is not None and until is not None:
        must(start < until, "until", f"be after start ({start.isoformat()})", until.isoformat())


class FaultKind(StrEnum):
    """A way in which data goes wrong while the world stays as it is."""

    SCALE = "scale"
    """Values are multiplied by `factor`: cents for dollars."""
    NULL = "null"
    """Values are missing."""
    STUCK = "stuck"
    """Every value is the same: the population's median, or its first category."""
    MISSING = "missing"
    """The column is not delivered."""
    RENAMED = "renamed"
    """The column is delivered as `other`."""
    SWAPPED = "swapped"
    """The column and `other` hold each other's values."""
    INFINITE = "infinite"
    """Values are infinite."""
    NEW_CATEGORY = "new_category"
    """Values are a word that was never seen, `other`."""
    DUPLICATE_KEYS = "duplicate_keys"
    """A loan bears the id of the loan before it."""

    @property
    def structural(self) -> bool:
        """Whether it changes which columns there are."""
        return self in (FaultKind.MISSING, FaultKind.RENAMED)


@dataclass(frozen=True)
class Fault:
    """One data fault. Labels and truth are those of the loans as they really were."""

    kind: FaultKind
    """What goes wrong."""
    column: str = "loan_id"
    """With which column; `loan_id` for duplicate keys."""
    start: datetime | None = None
    """From when, inclusive, UTC without a zone; from the first loan when None."""
    until: datetime | None = None
    """Until when, exclusive; to the last loan when None."""
    share: float = 1.0
    """Of the loans in that time, at random; structural faults hit all."""
    factor: float = 1000.0
    """Of a scale fault."""
    other: str | None = None
    """The new name, the swapped column or the new category."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        must(0 < self.share <= 1, "share", "be above 0 and at most 1", self.share)
        must(math.isfinite(self.factor), "factor", "be finite", self.factor)
        if self.kind in (FaultKind.RENAMED, FaultKind.SWAPPED, FaultKind.NEW_CATEGORY):
            must(bool(self.other), "other", f"be given for a {self.kind} fault", self.other)
        if self.kind.structural:
            must(self.share == 1, "share", f"be 1 for a {self.kind} fault", self.share)
        _in_order(self.start, self.until)


@dataclass(frozen=True)
class Ramp:
    """How a shift comes in: nothing before `start`, all of it `over` later, a line between."""

    start: datetime | None = None
    """UTC without a zone; before the first loan when None."""
    over: timedelta = timedelta(0)
    """0 is abrupt."""

    def __post_init__(self) -> None:
        """Refuse a ramp backwards."""
        must(self.over >= timedelta(0), "over", "be 0 or more", self.over)
        if self.start is not None:
            _naive("start", self.start)


@dataclass(frozen=True)
class CovariateShift:
    """Who applies changes; what makes a loan default does not: P(x) moves, P(y|x) stays.

    Columns move along their own normals, in standard deviations, so bounds hold and correlations
    stay. Strength 1 is a recession's: see `loans.RECESSION`.
    """

    strength: float = 1.0
    """1 moves income by -0.8 standard deviations, and so on; negative moves the other way."""
    ramp: Ramp = Ramp()
    """When."""

    def __post_init__(self) -> None:
        """Refuse what is not a number."""
        must(math.isfinite(self.strength), "strength", "be finite", self.strength)


@dataclass(frozen=True)
class ConceptShift:
    """What makes a loan default changes; who applies does not: P(y|x) moves, P(x) stays."""

    strength: float = 1.0
    """0 keeps the established scorecard, 1 is the turned one (`truth.TURNED`), between is a mix."""
    log_odds: float = 0.0
    """Added to every loan's log-odds of default at full strength of the ramp: all is riskier."""
    ramp: Ramp = Ramp()
    """When."""
    segment: tuple[str, str] | None = None
    """Only loans with this category column and value, such as ("homeownership", "RENT")."""

    def __post_init__(self) -> None:
        """Refuse strengths that are no mix."""
        must(0 <= self.strength <= 1, "strength", "be between 0 and 1", self.strength)
        must(math.isfinite(self.log_odds), "log_odds", "be finite", self.log_odds)


@dataclass(frozen=True)
class LabelNoise:
    """Labels that say the opposite of what happened; the truth stays what it was."""

    share: float
    """Of labels that are flipped."""
    start: datetime | None = None
    """From when, inclusive, UTC without a zone."""

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        must(0 <= self.share <= 1, "share", "be between 0 and 1", self.share)
        if self.start is not None:
            _naive("start", self.start)


@dataclass(frozen=True)
class LoanKnobs:
    """Everything that decides the loans: the same knobs give the same loans."""

    rows: int = 100_000
    """How many loans."""
    seed: int = 7
    """Of everything random."""
    start: datetime = datetime(2024, 1, 1)  # noqa: DTZ001 - UTC by definition
    """When the first loan may be given, UTC without a zone."""
    days: float = 365.0
    """Length of the period; loans are spread over it evenly."""
    default_rate: float = 0.02
    """Mean chance of default before any shift."""
    signal: float = 1.3
    """Standard deviation of the log-odds: how much the features tell. 0 is nothing, 1.3 leaves a
    perfect model a ROC AUC of about 0.84, 9 makes defaults nearly certain to foresee."""
    covariate_shifts: tuple[CovariateShift, ...] = ()
    """Changes of who applies."""
    concept_shifts: tuple[ConceptShift, ...] = ()
    """Changes of what makes a loan default."""
    faults: tuple[Fault, ...] = ()
    """Data faults, applied in order."""
    label_noise: LabelNoise | None = None
    """Wrong labels."""

    def __post_init__(self) -> None:
        """Refuse what cannot be generated."""
        must(self.rows >= 1, "rows", "be 1 or more", self.rows)
        must(0 <= self.seed < 2**63, "seed", "be between 0 and 2^63 - 1", self.seed)
        _naive("start", self.start)
        must(0 < self.days <= 36_500, "days", "be above 0 and at most 36500", self.days)
        rate = self.default_rate
        must(0.0001 <= rate <= 0.9999, "default_rate", "be between 0.0001 and 0.9999", rate)
        must(0 <= self.signal <= 50, "signal", "be between 0 and 50", self.signal)
