"""Betting on the mean of bounded gains: e-processes and confidence sequences.

A bettor who stakes a share `s` of her wealth against `mean <= b` multiplies it by
`1 + s (x - b) / (1 + b)` at each gain `x` in [-1, 1]. While the mean is b or less, her wealth is a
supermartingale, so it reaches 1/alpha with a chance of at most alpha, however often one looks
(Ville). Many bettors with different stakes share the first coin: their mean is as valid, and grows
nearly as the best of them. Waudby-Smith and Ramdas, "Estimating means of bounded random variables
by betting", JRSS-B 86 (2024), sections 3 and 4.5.

Pairs come out of order and labels are corrected, so a rollout weighs all of its pairs anew in
every tick: a whole path at once, where `domain.sequential` keeps streams that only grow.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STAKES: Floats = np.geomspace(0.005, 0.9, 14)
_BLOCK = 4096


def log_wealth_above(gains: Floats, bound: float) -> float:
    """Largest logarithm, along the way, of the wealth against `mean gain <= bound`.

    Args:
        gains: in [-1, 1], in the order in which they became known.
        bound: above -1 and below 1.

    >>> log_wealth_above(np.ones(20), 0.0) > np.log(1000)
    True
    """
    if len(gains) == 0:
        return 0.0
    best, wealth = 0.0, np.zeros(len(STAKES))
    for start in range(0, len(gains), _BLOCK):
        path = wealth + np.cumsum(_steps(gains[start : start + _BLOCK], bound), axis=0)
        best = max(best, float(_log_mean(path).max()))
        wealth = path[-1]
    return best


def wealth_path_above(gains: Floats, bound: float) -> Floats:
    """[gains] the logarithm of that wealth after each of them."""
    return _log_mean(np.cumsum(_steps(gains, bound), axis=0))


def log_wealth_below(gains: Floats, bound: float) -> float:
    """The same against `mean gain >= bound`."""
    return log_wealth_above(-gains, -bound)


def growth_above(gains: Floats, bound: float) -> float:
    """Nats that a gain adds to `log_wealth_above`, on average, for the best of the bettors; 0
    where none of them gains."""
    if len(gains) == 0:
        return 0.0
    return max(0.0, float(_steps(gains, bound).mean(axis=0).max()))


def interval(gains: Floats, alpha: float) -> tuple[float, float]:
    """Means that are not refuted, each end at one-sided `alpha`, by the wealth as it is now."""
    return _lowest(gains, alpha), -_lowest(-gains, alpha)


def _lowest(gains: Floats, alpha: float) -> float:
    if len(gains) == 0:
        return -1.0
    low, high, threshold = -1.0, 1.0, -np.log(alpha)
    # Equal gains count once: for right and wrong answers there are three of them.
    values, counts = np.unique(gains, return_counts=True)
    for _ in range(24):
        middle = (low + high) / 2
        wealth = counts @ _steps(values, middle)
        if float(_log_mean(wealth[None, :])[0]) >= threshold:
            low = middle
        else:
            high = middle
    return low


def _steps(gains: Floats, bound: float) -> Floats:
    return np.asarray(np.log1p(STAKES * ((gains - bound) / (1 + bound))[:, None]))


def _log_mean(path: Floats) -> Floats:
    top = path.max(axis=1)
    return np.asarray(top + np.log(np.exp(path - top[:, None]).mean(axis=1)))
