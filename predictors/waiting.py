"""Since when does the oldest record wait that no collector has acknowledged?

A segment stays on disk until it is full, long after most of it was shipped, so its age says
nothing of the shipper. What is kept here instead is when each group of records was written, in so
few marks that a collector away for days costs no memory.
"""

from collections import deque
from itertools import islice

MOST_MARKS = 1024


class WaitingMarks:
    """Times of writing by sequence number; one thread writes, any may ask.

    >>> marks = WaitingMarks()
    >>> marks.note(10, 100.0)
    >>> marks.note(20, 101.0)
    >>> marks.oldest(0), marks.oldest(10), marks.oldest(20)
    (100.0, 101.0, None)
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[int, float]] = deque()
        self._apart = 0.0
        """Seconds between two marks; what is written within it shares one, and its time."""

    @property
    def waiting(self) -> bool:
        """Whether anything is noted that is not forgotten."""
        return bool(self._marks)

    def note(self, sequence: int, at: float) -> None:
        """Everything up to a sequence number was written by a time (seconds since 1970)."""
        marks = self._marks
        if marks and sequence <= marks[-1][0]:
            return
        if marks and at - marks[-1][1] < self._apart:
            marks[-1] = (sequence, marks[-1][1])
            return
        marks.append((sequence, at))
        if len(marks) > MOST_MARKS:
            self._apart = 2 * (marks[-1][1] - marks[0][1]) / MOST_MARKS
            pairs = zip(islice(marks, 0, None, 2), islice(marks, 1, None, 2), strict=False)
            last = [marks[-1]] if len(marks) % 2 else []
            self._marks = deque([*((end, began) for (_, began), (end, _) in pairs), *last])

    def forget(self, sequence: int) -> None:
        """Everything up to a sequence number waits no more."""
        while self._marks and self._marks[0][0] <= sequence:
            self._marks.popleft()
        if not self._marks:
            self._apart = 0.0

    def oldest(self, shipped: int) -> float | None:
        """When the oldest record behind a sequence number was written; None where none is noted."""
        return next((at for sequence, at in list(self._marks) if sequence > shipped), None)
