"""What is new: in an event table, as the tick is told; in the truth, as its readers are."""

from collections.abc import Mapping
from dataclasses import dataclass

from heliotrope.domain.truth.cell import CellKey
from heliotrope.domain.truth.documents import Folded

PREDICTIONS = "predictions"
LABELS = "labels"


@dataclass(frozen=True)
class FeedStep:
    """One commit's new rows, or the whole table where single commits can no longer be read."""

    version: int
    """Everything up to this version is read once these files are."""
    files: tuple[str, ...]
    rows: int
    """As the writer counted them; 0 where it did not."""


@dataclass(frozen=True)
class TruthMark:
    """How much of a truth a reader knows."""

    made: str
    """Of which state; one that is emptied and made anew has another."""
    revision: int


@dataclass(frozen=True)
class TruthChanges:
    """What a truth says otherwise since a mark."""

    mark: TruthMark | None
    """None where there is no state yet."""
    whole: bool
    """All there is: what a reader knew before no longer holds."""
    restated: Mapping[CellKey, Folded]
    gone: tuple[CellKey, ...]
    newest: int | None
    """When the newest prediction was made, microseconds since 1970."""
