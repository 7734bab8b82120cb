"""How far back a training looks: the memories it tries, and which of them it keeps.

After an abrupt change all of history teaches the old world; after a gradual one, and when nothing
changed, forgetting costs accuracy. Which it was is not known beforehand, so several memories are
fitted and the newest labelled rows that none of them saw decide. On nine streams this recovered
from abrupt changes where retraining on everything, or on a window fixed beforehand, did not.
"""

import numpy as np
import numpy.typing as npt

from heliotrope.domain.document import Document
from heliotrope.spec import Retraining

SMALLEST = 200
"""Rows below which a memory is not worth trying."""


class Memory(Document):
    """Which rows train, and how much the newest of them weigh."""

    name: str
    """As people read it."""
    start: int
    """First `_row` that trains."""
    recent_from: int | None = None
    """Rows from here weigh `weight`, those before 1; None where all weigh the same."""
    weight: float = 1.0

    def weights(self, row_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
        """[rows] weights; None where all are 1."""
        if self.recent_from is None:
            return None
        return np.where(row_ids >= self.recent_from, self.weight, 1.0)


class MemoryTried(Document):
    """One memory and how it did."""

    memory: Memory
    rows: int
    """Rows that trained it."""
    loss: float
    """Mean loss on the rows that choose (log loss, or squared error); NaN where it was not
    fitted."""
    note: str = ""
    """Why it was not."""


class MemoryChoice(Document):
    """What was tried and taken."""

    chosen: str
    rows: int
    """Rows that chose: the newer half of the calibration part."""
    tried: tuple[MemoryTried, ...]

    def __str__(self) -> str:
        """In one line, the others beside it."""
        losses = ", ".join(f"{one.memory.name} {one.loss:.4f}" for one in self.tried)
        return f"{self.chosen} (loss on {self.rows:,} newer rows: {losses})"


def memories(train: range, policy: Retraining, changed_row: int | None) -> tuple[Memory, ...]:
    """The memories to try, all of history first.

    Args:
        train: `_row`s that may train, oldest first.
        policy: names the lengths and the weight.
        changed_row: first row since the change that the detector found; None where none is known.

    >>> [one.name for one in memories(range(1000), Retraining(memory_rows=(400,)), 700)]
    ['all', 'newest 400', 'since the change', 'all, newest 300 x3']
    """
    found = [Memory(name="all", start=train.start)]
    found += [
        Memory(name=f"newest {rows:,}", start=train.stop - rows)
        for rows in policy.memory_rows
        if SMALLEST <= rows < len(train)
    ]
    since = changed_row is not None and train.start < changed_row <= train.stop - SMALLEST
    recent = changed_row if since else None
    if recent is not None:
        found.append(Memory(name="since the change", start=recent))
    elif len(found) > 1:
        recent = max(memory.start for memory in found)
    if recent is not None and policy.recent_weight > 1:
        newest, weight = train.stop - recent, policy.recent_weight
        found.append(
            Memory(
                name=f"all, newest {newest:,} x{weight:g}",
                start=train.start,
                recent_from=recent,
                weight=weight,
            )
        )
    return tuple(found)


def best(tried: tuple[MemoryTried, ...]) -> MemoryTried:
    """The one of least loss; of equals the first, which looks further back."""
    fitted = [one for one in tried if np.isfinite(one.loss)]
    return min(fitted, key=lambda one: one.loss) if fitted else tried[0]
