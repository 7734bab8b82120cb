"""What was found in the data, before anything is trained on it."""

from enum import StrEnum
from typing import Any

from pydantic import Field

from heliotrope.domain.document import Document


class Level(StrEnum):
    """How bad a finding is."""

    FATAL = "fatal"
    """Training stops; a person must mend the data."""
    WARNING = "warning"
    """Reported; training goes on."""
    INFO = "info"
    """Worth knowing."""


class Finding(Document):
    """One thing found, in words a person can act on."""

    check: str
    """Which check: `missing_column`, `out_of_bounds`, `rescaled`, `leakage`, ..."""
    level: Level
    """How bad."""
    column: str | None = None
    """The column, where there is one."""
    message: str
    """What, what it must be, what was got."""
    rows: int | None = None
    """How many rows."""
    examples: tuple[dict[str, Any], ...] = ()
    """A few offending rows: key, value."""


class ColumnProfile(Document):
    """What one column of a snapshot looks like."""

    name: str
    type: str
    """The stored type."""
    rows: int
    nulls: int
    distinct: int
    infinite: int = 0
    mean: float | None = None
    sd: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    quantiles: tuple[float, ...] = ()
    """101 equally spaced quantiles, minimum to maximum (numbers only)."""
    shares: dict[str, float] = Field(default_factory=dict)
    """Share of each value (categories and booleans), the commonest 200."""


class QualityReport(Document):
    """All that validation found, and the numbers it rests on."""

    model: str
    rows: int
    usable_rows: int
    """Rows left after the ones that break a rule within its allowance were dropped."""
    label_rate: float | None = None
    """Share of the positive class (binary)."""
    class_counts: dict[str, int] = Field(default_factory=dict)
    columns: tuple[ColumnProfile, ...]
    findings: tuple[Finding, ...]
    compared_with: tuple[str, ...] = ()
    """What it was compared with: `previous snapshot v3`, `champion's snapshot v1`."""

    @property
    def fatal(self) -> tuple[Finding, ...]:
        """Findings that stop training."""
        return tuple(f for f in self.findings if f.level is Level.FATAL)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that are reported."""
        return tuple(f for f in self.findings if f.level is Level.WARNING)

    @property
    def usable(self) -> bool:
        """Whether a model may be trained on this data."""
        return not self.fatal
