"""Which of two is better on the same rows: the mean of paired differences.

Two versions that answer the same request are mostly right or wrong together; what they have in
common drops out of the difference, and a verdict takes a fraction of the rows that two separate
samples would. A difference of two losses in [0, 1] lies in [-1, 1]; half of it and a half lies in
[0, 1], where `betting` tests it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heliotrope.domain.sequential.betting import BettingTest, Capital, Side
from heliotrope.domain.sequential.confidence import ConfidenceSequence, Hedged
from heliotrope.domain.sequential.memory import Floats


def scaled(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """[rows] first - second, from [-1, 1] to [0, 1]; equal ones are 1/2."""
    return (1 + np.asarray(first, np.float64) - np.asarray(second, np.float64)) / 2


@dataclass(frozen=True)
class PairedTest:
    """Evidence on the mean of (first - second).

    >>> test = PairedTest(margin=0.0, side=Side.ABOVE)
    >>> worse, better = np.tile([1.0, 0.0, 1.0], 40), np.tile([0.0, 0.0, 1.0], 40)
    >>> bool(test.log_e(test.update(test.start(), worse, better)) > np.log(20))
    True
    """

    margin: float = 0.0
    """The difference that is tested against, within (-1, 1)."""
    side: Side = Side.ABOVE

    @property
    def _test(self) -> BettingTest:
        return BettingTest(np.array([(1 + self.margin) / 2]), self.side)

    def start(self) -> Capital:
        """Nothing was seen."""
        return self._test.start()

    def update(self, capital: Capital, first: npt.ArrayLike, second: npt.ArrayLike) -> Capital:
        """After more pairs of values in [0, 1]."""
        return self._test.update(capital, scaled(first, second))

    def log_e(self, capital: Capital) -> float:
        """Log of the evidence; log(1 / alpha) is enough for an error of alpha."""
        return float(self._test.log_e(capital)[0])


@dataclass(frozen=True)
class PairedSequence:
    """An interval of the mean difference that holds at all times at once."""

    alpha: float = 0.05
    grid: int = 2000

    @property
    def _sequence(self) -> ConfidenceSequence:
        return ConfidenceSequence(self.alpha, 1, self.grid)

    def start(self) -> Hedged:
        """Nothing was seen: [-1, 1]."""
        return self._sequence.start()

    def update(self, state: Hedged, first: npt.ArrayLike, second: npt.ArrayLike) -> Hedged:
        """After more pairs."""
        return self._sequence.update(state, scaled(first, second))

    def interval(self, state: Hedged) -> tuple[float, float]:
        """Lower and upper end."""
        low, high = self._sequence.interval(state)
        return float(2 * low[0] - 1), float(2 * high[0] - 1)
