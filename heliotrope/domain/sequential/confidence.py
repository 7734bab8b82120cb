"""Where the mean of a bounded variable is: an interval that holds at all times at once.

The hedged capital process of Waudby-Smith and Ramdas ("Estimating means of bounded random variables
by betting", JRSS B 86, 2024, theorem 3): for each candidate mean of a grid, the capital of bets
against it; those whose capital never reached 1/alpha remain. Bets are their predictable plug-in,
the same for every candidate but for a cap, so the set is an interval.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heliotrope.domain.sequential.betting import learn, moments
from heliotrope.domain.sequential.memory import Floats, Memory, Wholes, as_rows

CAP = 0.5
GRID = 1000


@dataclass(frozen=True, eq=False)
class Hedged(Memory):
    """Memory of a confidence sequence."""

    count: Wholes
    """[streams]"""
    total: Floats
    spread: Floats
    above: Floats
    """[streams, candidates] log capital of bets that the mean is above the candidate."""
    below: Floats
    low: Floats
    """[streams] place of the lowest candidate that was never refuted."""
    high: Floats


@dataclass(frozen=True)
class ConfidenceSequence:
    """Intervals of some streams' means.

    >>> sequence = ConfidenceSequence(alpha=0.05)
    >>> low, high = sequence.interval(sequence.update(sequence.start(), [0.0, 1.0] * 200))
    >>> bool(low[0] < 0.5 < high[0]), bool(high[0] - low[0] < 0.2)
    (True, True)
    """

    alpha: float = 0.05
    streams: int = 1
    grid: int = GRID
    """Candidates: the ends are told to 1 / grid."""

    @property
    def _candidates(self) -> Floats:
        return (np.arange(self.grid) + 0.5) / self.grid

    def start(self) -> Hedged:
        """Nothing was seen: the interval is [0, 1]."""
        none = np.zeros(self.streams)
        flat = np.zeros((self.streams, self.grid))
        return Hedged(none.astype(np.int64), none, none, flat, flat, none, none + self.grid - 1)

    def update(self, state: Hedged, values: npt.ArrayLike) -> Hedged:
        """After more values; see `BettingTest.update`."""
        count, total, spread = state.count, state.total, state.spread
        above, below, low, high = state.above, state.below, state.low, state.high
        candidates = self._candidates
        limit = np.log(1 / self.alpha)
        for row in as_rows(values, self.streams):
            seen = ~np.isnan(row)
            # A stream without a value stakes nothing.
            bet = np.where(seen, self._bet(count, total, spread), 0.0)[:, None]
            gain = np.where(seen, row, 0.0)[:, None] - candidates
            above = above + np.log1p(np.minimum(bet, CAP / candidates) * gain)
            below = below + np.log1p(-np.minimum(bet, CAP / (1 - candidates)) * gain)
            # Each half of the capital alone, as theorem 3 takes the larger of the two.
            alive = np.maximum(above, below) - np.log(2) < limit
            some = alive.any(axis=1)
            low = np.where(some, np.maximum(low, alive.argmax(axis=1)), low)
            last = self.grid - 1 - alive[:, ::-1].argmax(axis=1)
            high = np.where(some, np.minimum(high, last), high)
            count, total, spread = learn(count, total, spread, np.where(seen, row, 0.0), seen)
        return Hedged(count, total, spread, above, below, low, high)

    def _bet(self, count: Wholes, total: Floats, spread: Floats) -> Floats:
        _, variance = moments(count, total, spread)
        time = count + 1
        return np.asarray(np.sqrt(2 * np.log(2 / self.alpha) / (variance * time * np.log1p(time))))

    def interval(self, state: Hedged) -> tuple[Floats, Floats]:
        """[streams] lower and upper ends, wide enough for what the grid leaves open.

        Where the values refute every mean, since theirs moved, the last interval stays.
        """
        low = np.minimum(state.low, state.high)
        high = np.maximum(state.low, state.high)
        return np.maximum(low - 0.5, 0) / self.grid, np.minimum(high + 1.5, self.grid) / self.grid
