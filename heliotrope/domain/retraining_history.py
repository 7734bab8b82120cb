"""What the door to retraining knows of a model: runs that were, and how good the champion is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from heliotrope.domain.remedy.documents import Remedy
from heliotrope.domain.triggers import CauseKind
from heliotrope.vocabulary import Outcome


@dataclass(frozen=True)
class PastRun:
    """A run that was decided upon."""

    run_key: str
    kind: CauseKind
    requested_at: datetime
    forced: bool = False
    outcome: Outcome | None = None
    """None while it is under way."""
    rolled_back: bool = False
    """What it registered was tried and taken back."""
    version: str | None = None

    @property
    def succeeded(self) -> bool:
        """It registered a candidate that was not taken back."""
        return self.outcome is Outcome.REGISTERED and not self.rolled_back


@dataclass(frozen=True)
class Level:
    """How good the champion is now beside what was first accepted, from mature labels."""

    metric: str
    greater_is_better: bool
    accepted: float
    """The target; never reset."""
    fall: float
    """How far below it matters (`monitoring.fall`)."""
    value: float
    low: float
    """Lower end of the 95% interval."""
    high: float
    labels: int
    window: datetime
    """Start of the window it is of."""

    @property
    def missed(self) -> bool:
        """Worse than accepted by more than matters, and by more than chance allows."""
        if self.greater_is_better:
            return self.value < self.accepted - self.fall and self.high < self.accepted
        return self.value > self.accepted + self.fall and self.low > self.accepted

    def __str__(self) -> str:
        """Render as `accuracy 0.713 [0.690, 0.740] over 1,240 labels`."""
        return (
            f"{self.metric} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}] "
            f"over {self.labels:,} labels"
        )


@dataclass(frozen=True)
class RetrainingHistory:
    """What the door knows of a model."""

    runs: Sequence[PastRun] = ()
    """All that were decided upon, in any order."""
    champion: str | None = None
    rollout: str | None = None
    """A rollout under way, in words; None when there is none."""
    new_labels: int | None = None
    """Mature labels newer than the champion's training data; None where nobody can count them."""
    changed_labels: int | None = None
    """Of those, the ones since the world changed, where the cause knows when that was."""
    level: Level | None = None
    """None while no mature window of the champion is there."""
    diagnosed: Remedy | None = None
    """What the newest diagnosis of the champion said, where it is of now."""

    @property
    def under_way(self) -> PastRun | None:
        """The run that is not over."""
        return next((run for run in self.runs if run.outcome is None), None)

    @property
    def failures(self) -> int:
        """Candidates in a row that came to nothing, since the newest that did or was forced."""
        count = 0
        for run in sorted(self.runs, key=lambda run: run.requested_at, reverse=True):
            if run.succeeded:
                break
            count += run.outcome is not None
            if run.forced:
                break
        return count
