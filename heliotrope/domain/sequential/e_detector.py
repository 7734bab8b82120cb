"""When did the mean of a bounded loss rise: an e-detector, with a guaranteed run length.

At each row a new e-process begins that bets that from here on the mean is above its bound. Their
sum, taken as in Shiryaev and Roberts' rule, grows by at most one a row while the mean is not; so an
alarm at a sum of R comes after R rows or more, on average, whatever the losses' distribution.
Nothing is assumed but that they lie in [0, 1].

Source: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection", New England Journal of Statistics in Data Science 2 (2024), theorem 2.4 and section 3.3
(mixtures of baseline increments).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heliotrope.domain.sequential.memory import Floats, Memory, Wholes, as_rows

STAKES = 8


@dataclass(frozen=True, eq=False)
class Detected(Memory):
    """Memory of a detector; [streams], or [streams, stakes]."""

    seen: Wholes
    log_sum: Floats
    """Log of the sum over all starts, by stake."""
    log_best: Floats
    """Log of the largest e-process of any start, by stake, 0 where none is above 1."""
    since: Wholes
    """Rows seen when that one began, by stake: where the change was, if there was one."""
    first: Wholes
    """[streams] rows seen at the alarm; 0 while there is none."""
    changed: Wholes
    """[streams] `since` of the best at the alarm."""


@dataclass(frozen=True, eq=False)
class EDetector:
    """Detectors of some streams.

    >>> detector = EDetector(np.array([0.1]), run_length=8000)
    >>> after = detector.update(detector.start(), [0.05, 0.15] * 200 + [0.4, 0.2] * 60)
    >>> int(after.changed[0]), int(after.first[0]) > 400
    (399, True)
    """

    bound: Floats
    """[streams] the mean loss that is still well, within (0, 1)."""
    run_length: float
    """Rows to a false alarm on average, at least."""

    def __post_init__(self) -> None:
        if ((self.bound <= 0) | (self.bound >= 1)).any():
            raise ValueError(f"bounds must be between 0 and 1, exclusive. Got {self.bound}.")

    @property
    def _stakes(self) -> Floats:
        """[streams, stakes] shares of the most that may be staked, tenfold smaller to half."""
        shares = np.geomspace(0.01, 0.5, STAKES)
        return np.asarray(shares[None, :] / self.bound[:, None])

    def start(self) -> Detected:
        """Nothing was seen."""
        streams = len(self.bound)
        each, both = np.zeros(streams, np.int64), np.zeros((streams, STAKES))
        return Detected(each, both - np.inf, both, both.astype(np.int64), each, each)

    def update(self, state: Detected, losses: npt.ArrayLike) -> Detected:
        """After more rows; an alarm is noted once, and what follows is still counted.

        Args:
            state: before.
            losses: [rows, streams] within [0, 1], or [rows] of one stream; NaN is no row.

        Raises:
            ValueError: a loss is out of bounds.
        """
        stakes, limit = self._stakes, np.log(self.run_length)
        seen, log_sum, log_best = state.seen, state.log_sum, state.log_best
        since, first, changed = state.since, state.first, state.changed
        for row in as_rows(losses, len(self.bound)):
            told = ~np.isnan(row)
            gain = np.where(told, row, self.bound) - self.bound
            step = np.log1p(stakes * gain[:, None])
            seen = seen + told
            log_sum = np.where(told[:, None], np.logaddexp(log_sum, 0.0) + step, log_sum)
            log_best = log_best + step
            fresh = (log_best <= 0) & told[:, None]
            log_best = np.maximum(log_best, 0.0)
            since = np.where(fresh, seen[:, None], since)
            now = (mixed(log_sum) >= limit) & (first == 0)
            if now.any():
                first = np.where(now, seen, first)
                best = log_best.argmax(axis=1)[:, None]
                changed = np.where(now, np.take_along_axis(since, best, axis=1)[:, 0], changed)
        return Detected(seen, log_sum, log_best, since, first, changed)

    def log_evidence(self, state: Detected) -> Floats:
        """[streams] log of the sum; an alarm at log(run_length)."""
        return mixed(state.log_sum)


def mixed(log_sum: Floats) -> Floats:
    """[streams] log of the mean over stakes."""
    most = log_sum.max(axis=1)
    safe = np.where(np.isfinite(most), most, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(safe + np.log(np.exp(log_sum - safe[:, None]).mean(axis=1)))
