"""What is new in an event table, as the tick is told of it."""

from dataclasses import dataclass

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
