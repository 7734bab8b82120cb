"""Scores of a Bernoulli CUSUM in whole numbers, so that its run length can be told exactly.

The log-likelihood ratio of an error is up, of a right answer down. Replacing their ratio by a
fraction of small whole numbers moves the chart's optimum a little and makes its state one of
finitely many: Reynolds and Stoumbos, "A CUSUM chart for monitoring a proportion when inspecting
continuously", Journal of Quality Technology 31 (1999), section 3.
"""

import math
from dataclasses import dataclass

TOLERANCE = 0.18
"""By how much the balance may move, as a share of the rise."""
_MOST_PARTS = 40


@dataclass(frozen=True)
class Scores:
    """What a chart adds for an error, and takes off for a right answer."""

    up: int
    down: int
    unit: float
    """Log-likelihood a whole number stands for."""

    @property
    def balance(self) -> float:
        """The error rate at which the chart neither rises nor falls, on average."""
        return self.down / (self.up + self.down)


def scores_of(base: float, shifted: float) -> Scores:
    """Scores for telling an error rate from a greater one.

    Args:
        base: of a model that is well, within (0, 1).
        shifted: greater than it, below 1.

    Raises:
        ValueError: they are not in order.

    >>> scores_of(0.06, 0.12).up, scores_of(0.06, 0.12).down
    (11, 1)
    """
    if not 0 < base < shifted < 1:
        raise ValueError(f"rates must rise within (0, 1). Got {base} and {shifted}.")
    up = math.log(shifted / base)
    down = math.log((1 - base) / (1 - shifted))
    ratio = up / down
    for parts in range(1, _MOST_PARTS + 1):
        whole = max(round(ratio * parts), 1)
        balance = parts / (whole + parts)
        if abs(balance - 1 / (1 + ratio)) <= TOLERANCE * (shifted - base):
            break
    return Scores(whole, parts, down / parts)
