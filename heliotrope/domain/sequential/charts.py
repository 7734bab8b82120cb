"""When did an error rate rise: two Bernoulli CUSUMs that remember where they last stood at zero.

The label behind a chart's last zero is the maximum-likelihood estimate of where the change was
(Page, "Continuous inspection schemes", Biometrika 41, 1954); what was seen since tells how bad it
is.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heliotrope.domain.sequential.chains import Charts
from heliotrope.domain.sequential.memory import Memory, Wholes


@dataclass(frozen=True, eq=False)
class Charted(Memory):
    """Memory of the charts; the first axis is the chart, the second the stream."""

    seen: Wholes
    """[streams] labels."""
    height: Wholes
    """[charts, streams]"""
    since: Wholes
    """[charts, streams] labels seen when the chart last stood at zero: the change, if there was
    one, came with the label after."""
    errors: Wholes
    """[charts, streams] errors from there on."""
    first: Wholes
    """[streams] labels seen at the alarm; 0 while there is none."""
    raised_by: Wholes
    """[streams] which chart alarmed; -1 while none did."""
    changed: Wholes
    """[streams] `since` of that chart at the alarm."""


@dataclass(frozen=True)
class ErrorCharts:
    """Charts over some streams of errors.

    >>> from heliotrope.domain.sequential.design import ErrorBase, design
    >>> made = design(ErrorBase(errors=0.06, rows=0), rise=0.05, run_length=8000)
    >>> charts = ErrorCharts(made.charts)
    >>> after = charts.update(charts.start(), [0] * 500 + [1, 0] * 20)
    >>> int(after.changed[0]), int(after.first[0]) - 500
    (500, 13)
    """

    charts: Charts
    streams: int = 1

    def start(self) -> Charted:
        """Nothing was seen."""
        each = np.zeros(self.streams, np.int64)
        both = np.zeros((len(self.charts.heights), self.streams), np.int64)
        return Charted(each, both, both, both, each, each - 1, each)

    def update(self, state: Charted, errors: npt.ArrayLike) -> Charted:
        """After more labels; a chart that alarmed goes on, so that what follows is counted.

        Args:
            state: before.
            errors: [labels] of one stream or [labels, streams]: 1 wrong, 0 right, -1 no label.

        Raises:
            ValueError: another number is among them.
        """
        rows = self._rows(errors)
        up = np.array([[score.up] for score in self.charts.scores])
        down = np.array([[score.down] for score in self.charts.scores])
        limit = np.array([[height] for height in self.charts.heights])
        seen, height, since, wrong = state.seen, state.height, state.since, state.errors
        first, raised_by, changed = state.first, state.raised_by, state.changed
        for row in rows:
            told = row >= 0
            seen = seen + told
            height = np.where(told, height + np.where(row == 1, up, -down), height)
            wrong = wrong + (row == 1)
            zero = (height <= 0) & told
            height = np.maximum(height, 0)
            since = np.where(zero, seen, since)
            wrong = np.where(zero, 0, wrong)
            over = height >= limit
            now = over.any(axis=0) & (first == 0)
            if now.any():
                chart = over.argmax(axis=0)
                first = np.where(now, seen, first)
                raised_by = np.where(now, chart, raised_by)
                at = np.take_along_axis(since, chart[None, :], axis=0)[0]
                changed = np.where(now, at, changed)
        return Charted(seen, height, since, wrong, first, raised_by, changed)

    def _rows(self, errors: npt.ArrayLike) -> Wholes:
        rows = np.asarray(errors, np.int64)
        if rows.ndim == 1:
            rows = rows[:, None] if self.streams == 1 else rows[None, :]
        if rows.shape[1] != self.streams or not np.isin(rows, (-1, 0, 1)).all():
            raise ValueError(
                f"errors must be 1, 0 or -1 of {self.streams} streams. Got {rows.shape[1]} streams "
                f"of {np.unique(rows)[:5].tolist()}."
            )
        return rows
