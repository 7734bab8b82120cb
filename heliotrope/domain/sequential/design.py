"""Charts for a model's error rate, at a stated rate of false alarms.

Two charts: one tuned to the smallest rise that matters, one to a rise of two and a half times it.
Together they are within a few labels of the best single chart at any size of rise.

The error rate they start from was estimated on finitely many rows. A chart that takes it as known
would alarm far too often where it was estimated too low, so heights are set such that the rate of
false alarms, averaged over where the true error rate can be (Jeffreys' posterior), is what was
asked for.
"""

import math
from functools import lru_cache

import numpy as np
import scipy.stats

from heliotrope.domain.document import Document
from heliotrope.domain.sequential.chains import Charts, delays, run_length, settled
from heliotrope.domain.sequential.memory import Floats
from heliotrope.domain.sequential.scores import Scores, scores_of

LARGE = 2.5
"""The second chart's rise, in rises that matter."""
LEAST_BASE = 0.002
"""Error rates below are taken for it: a chart tuned to none at all would alarm at the first."""
_POINTS = (np.arange(6) + 0.5) / 6
_HIGHEST = 1_000
_MOST_STATES = 20_000
"""Of both charts together; to work out as many takes some 15 s."""
_HALVINGS = 5


class NoChartsError(Exception):
    """The base is known too little for so small a rise and so few false alarms.

    Some error rate that it may as well be lies where the charts rise by themselves, or nearly.
    """


class ErrorBase(Document):
    """What is known of a model's error rate when it is well."""

    errors: float
    rows: int
    """0 takes `errors` as the error rate itself, known exactly."""

    @property
    def rate(self) -> float:
        """The estimate."""
        return self.errors / self.rows if self.rows else self.errors

    def plausible(self) -> Floats:
        """Error rates it may be, equally likely each."""
        if not self.rows:
            return np.array([self.rate])
        spread = scipy.stats.beta(self.errors + 0.5, self.rows - self.errors + 0.5)
        return np.asarray(spread.ppf(_POINTS), np.float64)


class ErrorDesign(Document):
    """Charts, and what they promise."""

    base: ErrorBase
    rise: float
    """The rise of the error rate that matters."""
    run_length: float
    """Labels between two false alarms, as asked for."""
    scores: tuple[tuple[int, int, float], ...]
    heights: tuple[int, ...]

    @property
    def charts(self) -> Charts:
        """The charts."""
        return Charts(tuple(Scores(*score) for score in self.scores), self.heights)

    def stated_run_length(self) -> float:
        """Labels between two false alarms, on average, if the base is as estimated."""
        return _stated_run_length(self)

    def stated_delay(self, rise: float | None = None) -> tuple[int, int]:
        """Labels from a rise to the alarm: median, and in 95 of 100.

        Args:
            rise: of the error rate; the one that matters when left out.
        """
        return _stated_delay(self, self.rise if rise is None else rise)


@lru_cache(maxsize=256)
def _stated_run_length(made: ErrorDesign) -> float:
    # Half a second each, and told again with every look at an alarm that is on.
    return run_length(made.charts, _within(made.base.rate))


@lru_cache(maxsize=256)
def _stated_delay(made: ErrorDesign, rise: float) -> tuple[int, int]:
    base = _within(made.base.rate)
    half, most = delays(made.charts, base, min(base + rise, 0.999))
    return half, most


def design(base: ErrorBase, rise: float, run_length: float) -> ErrorDesign:
    """Charts that alarm falsely every `run_length` labels, on average over what the base may be.

    Args:
        base: the error rate of a model that is well.
        rise: the rise that matters; a smaller one is not what is looked for, though it may be
            found.
        run_length: labels.

    Raises:
        NoChartsError: no charts of a reasonable size alarm as seldom.

    >>> made = design(ErrorBase(errors=0.06, rows=0), rise=0.05, run_length=8000)
    >>> round(made.stated_run_length(), -3)
    8000.0
    """
    made = _design(base.errors, base.rows, rise, run_length)
    if made is None:
        raise NoChartsError(
            f"{base.errors:g} errors in {base.rows:,} rows do not tell a rise by {rise:g} with one "
            f"false alarm in {run_length:,.0f} labels."
        )
    return made


@lru_cache(maxsize=256)
def _design(errors: float, rows: int, rise: float, length: float) -> ErrorDesign | None:
    base = ErrorBase(errors=errors, rows=rows)
    rate = _within(base.rate)
    room = 0.999 - rate
    scores = tuple(
        scores_of(rate, rate + min(part * rise, share * room))
        for part, share in ((1.0, 0.5), (LARGE, 0.9))
    )
    plausible = np.array([_within(p) for p in base.plausible()])
    heights = _heights(scores, plausible, 1 / length)
    if heights is None:
        return None
    return ErrorDesign(
        base=base, rise=rise, run_length=length, heights=heights,
        scores=tuple((score.up, score.down, score.unit) for score in scores),
    )  # fmt: skip


def _within(rate: float) -> float:
    return float(min(max(rate, LEAST_BASE), 0.95))


def _alarms(charts: Charts, rates: Floats) -> float:
    return float(settled(charts, rates)[0].mean())


def _heights(scores: tuple[Scores, ...], rates: Floats, asked: float) -> tuple[int, ...] | None:
    """The lowest, along a line on which both charts alone would alarm equally often; None where
    they would be too high."""
    if rates.max() >= scores[0].balance:
        # Where it may as well rise by itself a chart alarms soon, however high it is.
        return None
    alone = [_height(score, rates, asked) for score in scores]

    def lifted(by: float) -> tuple[int, ...]:
        return tuple(
            max(height + math.ceil(by / score.unit), 1)
            for height, score in zip(alone, scores, strict=True)
        )

    # Two charts alarm at most twice as often as one, and at least as often.
    low, high = 0.0, math.log(2)
    while math.prod(lifted(high)) <= _MOST_STATES:
        if _alarms(Charts(scores, lifted(high)), rates) <= asked:
            break
        low, high = high, high + math.log(2)
    else:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _alarms(Charts(scores, lifted(middle)), rates) > asked:
            low = middle
        else:
            high = middle
    return lifted(high)


def _height(score: Scores, rates: Floats, asked: float) -> int:
    """The lowest at which a chart alone alarms no more often than asked."""
    known: dict[int, bool] = {}
    height = score.up + math.ceil(math.log(1 / asked) / 2 / score.unit)
    while height not in known:
        alarms = _alarms(Charts((score,), (height,)), rates)
        known[height] = alarms <= asked
        # The logarithm of the rate falls by about a unit with each step.
        step = math.log(max(alarms, 1e-12) / asked) / score.unit
        height = min(max(height + (math.ceil(step) if step > 0 else math.floor(step)), 1), _HIGHEST)
    return min((tried for tried, enough in known.items() if enough), default=max(known))
