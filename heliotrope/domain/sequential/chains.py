"""How long a pair of Bernoulli CUSUMs runs, exactly: the Markov chain of their joint state.

Brook and Evans, "An approach to the probability distribution of CUSUM run length", Biometrika 59
(1972), for two charts that see the same values and alarm when either does. The chain is followed
label by label, which gives the whole distribution of the delay, not only its mean.
"""

from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from heliotrope.domain.sequential.memory import Floats
from heliotrope.domain.sequential.scores import Scores

SETTLED = 1e-3
"""Relative change of the mean rate, over `_LOOK` labels, below which it is taken."""
_LOOK = 64
_LONGEST = 200_000


@dataclass(frozen=True)
class Charts:
    """One or two charts, and the height at which each alarms."""

    scores: tuple[Scores, ...]
    heights: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """States of the first and of the second, one where there is none."""
        return self.heights[0], self.heights[1] if len(self.heights) > 1 else 1

    def zero(self, rates: int) -> Floats:
        """[rates, *shape] both at zero."""
        start = np.zeros((rates, *self.shape))
        start[:, 0, 0] = 1.0
        return start

    def step(self, at: Floats, rates: Floats) -> Floats:
        """Where the charts are after a label, of those that did not alarm.

        Args:
            at: [rates, *shape] how likely each state is.
            rates: [rates] chance of an error.
        """
        chance = rates[:, None, None]
        right = at
        raised = at
        for axis, score in enumerate(self.scores, start=1):
            right = _lowered(right, score.down, axis)
            raised = _raised(raised, score.up, axis)
        moved: Floats = (1 - chance) * right + chance * raised
        return moved


def _part(axis: int, part: slice) -> tuple[slice, ...]:
    chosen = [slice(None)] * 3
    chosen[axis] = part
    return tuple(chosen)


def _lowered(at: Floats, down: int, axis: int) -> Floats:
    size = at.shape[axis]
    moved = np.zeros_like(at)
    if size > down:
        moved[_part(axis, slice(0, size - down))] = at[_part(axis, slice(down, None))]
    floor = at[_part(axis, slice(0, min(down, size)))].sum(axis=axis, keepdims=True)
    moved[_part(axis, slice(0, 1))] += floor
    return moved


def _raised(at: Floats, up: int, axis: int) -> Floats:
    moved = np.zeros_like(at)
    if at.shape[axis] > up:
        moved[_part(axis, slice(up, None))] = at[_part(axis, slice(0, at.shape[axis] - up))]
    return moved


def settled(charts: Charts, rates: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Alarms a label in the long run, and where the charts are then, if they have not alarmed.

    Args:
        charts: which.
        rates: [rates] error rates.

    Returns:
        [rates] alarms a label; [rates, *shape] chances of the states.
    """
    chances = np.asarray(rates, np.float64)
    at, known = charts.zero(len(chances)), np.nan
    for label in count(1):
        at = charts.step(at, chances)
        left = at.sum(axis=(1, 2), keepdims=True)
        at = at / left
        if label % _LOOK == 0:
            alarms = 1 - left[:, 0, 0]
            # The mean is what is asked for; rates that add nothing to it settle last.
            mean = float(alarms.mean())
            if abs(mean - known) <= SETTLED * mean or label >= _LONGEST:
                return alarms, at
            known = mean
    raise AssertionError("unreachable")


def run_length(charts: Charts, rate: float) -> float:
    """Labels to an alarm on average, from zero (ARL)."""
    alarms, _ = settled(charts, [rate])
    at, total, survived = charts.zero(1), 0.0, 1.0
    # Once the charts have settled, what is left alarms at the same rate for ever.
    for _ in range(max(4 * _LOOK, int(8 * max(charts.heights)))):
        total += survived
        at = charts.step(at, np.array([rate]))
        survived = float(at.sum())
    return total + survived / float(alarms[0])


def delays(
    charts: Charts, base: float, rate: float, chances: tuple[float, ...] = (0.5, 0.95)
) -> tuple[int, ...]:
    """Labels from a change to the alarm, by quantile.

    Args:
        charts: which.
        base: error rate before the change; the charts have run long without an alarm.
        rate: error rate from the change on.
        chances: quantiles, rising.
    """
    _, at = settled(charts, [base])
    found: list[int] = []
    chance = np.array([rate])
    for label in count(1):
        at = charts.step(at, chance)
        gone = 1 - float(at.sum())
        while len(found) < len(chances) and gone >= chances[len(found)]:
            found.append(label)
        if len(found) == len(chances):
            return tuple(found)
        if label >= _LONGEST:
            return (*found, *[_LONGEST] * (len(chances) - len(found)))
    raise AssertionError("unreachable")
