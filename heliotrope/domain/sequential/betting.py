"""Is the mean of a bounded variable above a bound, or below? A betting e-process.

Somebody who starts with a capital of 1 and bets on each value before it is seen cannot, if the
mean is where the hypothesis says, expect to gain: the capital is a nonnegative supermartingale,
and by Ville's inequality ever reaches 1/alpha with probability alpha at most. So one may look after
each value and stop at will.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B
86 (2024): capital process of section 4.1, bets "approximate GRAPA" of appendix B.3, hedging of
section 4.4.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from heliotrope.domain.sequential.memory import Floats, Memory, Wholes, as_rows

CAP = 0.75
"""Most of what could be staked that is: a lost bet leaves a quarter of the capital."""


class Side(StrEnum):
    """What is to be shown."""

    ABOVE = "above"
    """Against: the mean is at most the bound."""
    BELOW = "below"
    """Against: the mean is at least the bound."""
    APART = "apart"
    """Against: the mean is the bound; half of the capital on each side."""


@dataclass(frozen=True, eq=False)
class Capital(Memory):
    """Memory of a test; [streams] each."""

    count: Wholes
    total: Floats
    spread: Floats
    """Sum of squared distances from the mean as it was estimated each time."""
    above: Floats
    """Log capital of bets that the mean is above the bound."""
    below: Floats


@dataclass(frozen=True, eq=False)
class BettingTest:
    """One bound a stream.

    >>> test = BettingTest(np.array([0.5]), Side.ABOVE)
    >>> capital = test.update(test.start(), [1.0] * 12)
    >>> bool(test.log_e(capital)[0] > np.log(20))
    True
    """

    bound: Floats
    """[streams] within (0, 1)."""
    side: Side = Side.APART

    def __post_init__(self) -> None:
        if ((self.bound <= 0) | (self.bound >= 1)).any():
            raise ValueError(f"bounds must be between 0 and 1, exclusive. Got {self.bound}.")

    def start(self) -> Capital:
        """Nothing was seen."""
        none = np.zeros(len(self.bound))
        return Capital(none.astype(np.int64), none, none, none, none)

    def update(self, capital: Capital, values: npt.ArrayLike) -> Capital:
        """The capital after more values.

        Args:
            capital: before.
            values: [rows, streams] within [0, 1], or [rows] of one stream; NaN is no value.

        Raises:
            ValueError: a value is out of bounds.
        """
        count, total, spread = capital.count, capital.total, capital.spread
        above, below = capital.above, capital.below
        for row in as_rows(values, len(self.bound)):
            seen = ~np.isnan(row)
            value = np.where(seen, row, self.bound)
            up, down = self._stakes(count, total, spread)
            gain = value - self.bound
            above = above + np.log1p(up * gain)
            below = below + np.log1p(-down * gain)
            count, total, spread = learn(count, total, spread, value, seen)
        return Capital(count, total, spread, above, below)

    def _stakes(self, count: Wholes, total: Floats, spread: Floats) -> tuple[Floats, Floats]:
        mean, variance = moments(count, total, spread)
        edge = mean - self.bound
        bet = edge / (variance + edge**2)
        return (
            np.clip(bet, 0, CAP / self.bound),
            np.clip(-bet, 0, CAP / (1 - self.bound)),
        )

    def log_e(self, capital: Capital) -> Floats:
        """[streams] log of the evidence: e-values, whose inverse bounds the chance of error."""
        if self.side is Side.ABOVE:
            return capital.above
        if self.side is Side.BELOW:
            return capital.below
        return np.asarray(np.logaddexp(capital.above, capital.below) - np.log(2))


def learn(
    count: Wholes, total: Floats, spread: Floats, value: Floats, seen: npt.NDArray[np.bool_]
) -> tuple[Wholes, Floats, Floats]:
    """Count, sum and spread after one value of each stream that has one."""
    count = count + seen
    total = total + np.where(seen, value, 0.0)
    mean = (0.5 + total) / (count + 1)
    return count, total, spread + np.where(seen, (value - mean) ** 2, 0.0)


def moments(count: Wholes, total: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """Mean and variance so far, begun as if one value of 1/2 with variance 1/4 had been seen."""
    return (0.5 + total) / (count + 1), (0.25 + spread) / (count + 1)
