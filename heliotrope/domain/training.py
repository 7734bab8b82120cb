"""What a training left behind, beside the model itself."""

from datetime import datetime
from typing import Any

from pydantic import Field

from heliotrope.domain.document import Document
from heliotrope.domain.memory import MemoryChoice


class SplitRange(Document):
    """One part of the time-ordered split."""

    rows: int
    """Usable rows in it."""
    event_from: datetime | None = None
    event_to: datetime | None = None
    row_from: int = 0
    """`_row` it starts with."""
    row_to: int = 0
    """`_row` it ends before."""


class TrainingRecord(Document):
    """How a model was fitted."""

    train: SplitRange
    calibration: SplitRange
    holdout: SplitRange
    estimator: str
    """Dotted name of the fitted estimator."""
    parameters: dict[str, Any]
    seed: int
    classes: tuple[str, ...]
    """Class names in score order; empty for regression."""
    importances: dict[str, float]
    """Share of each feature in the permutation importance, summing to 1, largest first."""
    curve: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Loss by iteration: `train` and, where there is one, `validation`."""
    calibration_method: str | None = None
    """`sigmoid` or `temperature`; None where probabilities are the estimator's own."""
    memory: MemoryChoice | None = None
    """How far back it looks, where more than one memory was tried."""
    changed_at: datetime | None = None
    """When the world changed, as the cause of the run said."""
    seconds: float
    peak_rss_bytes: int
    warnings: tuple[str, ...] = ()
    """What the libraries warned of while fitting."""
