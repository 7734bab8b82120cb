"""Is it the labels? Gone, late, of one class, or saying the opposite of what happened."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.stats import binom, poisson

from heliotrope.domain.remedy.rows import Floats, LabelFacts

CERTAIN = 1e-5
FLIPS = 0.02
"""Share of flipped labels from which it matters."""


@dataclass(frozen=True)
class LabelSuspicion:
    """Something about the labels that no change of the world explains."""

    text: str
    share: float | None
    """Of labels concerned."""


def missing_labels(facts: LabelFacts) -> LabelSuspicion | None:
    """Fewer mature predictions have labels than usual."""
    before = facts.coverage_before
    if not facts.predicted or facts.labelled is None or not before:
        return None
    now = facts.labelled / facts.predicted
    p = float(binom.cdf(facts.labelled, facts.predicted, before * 0.95))
    if p >= CERTAIN or now > 0.8 * before:
        return None
    return LabelSuspicion(
        f"{now:.0%} of {facts.predicted:,} mature predictions have a label, {before:.0%} usually",
        1 - now / before,
    )


def late_labels(facts: LabelFacts) -> LabelSuspicion | None:
    """Labels take much longer than usual: those so far are not like those to come."""
    now, before = facts.delay_seconds, facts.delay_before
    if not now or not before or now < 3 * before or now - before < 3600:
        return None
    return LabelSuspicion(
        f"labels take {now / 3600:.1f} h (median), {before / 3600:.1f} h usually", None
    )


def contradicting_labels(facts: LabelFacts) -> LabelSuspicion | None:
    """Many predictions got two labels that disagree."""
    if not facts.labelled or facts.repeated < 10 or facts.repeated < 0.05 * facts.labelled:
        return None
    return LabelSuspicion(
        f"{facts.repeated:,} of {facts.labelled:,} predictions got labels that disagree",
        facts.repeated / facts.labelled,
    )


def lost_class(chance: Floats, labels: npt.NDArray[Any]) -> LabelSuspicion | None:
    """One class does not come at all, though scores promise it.

    Only where nearly none is left: a class that merely got rarer may be the world's doing.
    """
    for name, promised, seen in (
        ("positive", float(chance.sum()), int((labels == 1).sum())),
        ("negative", float((1 - chance).sum()), int((labels == 0).sum())),
    ):
        if seen <= 0.05 * promised and float(poisson.cdf(seen, promised / 2)) < CERTAIN:
            return LabelSuspicion(
                f"{seen:,} labels are {name}, {promised:,.0f} are to be expected of the scores",
                1 - seen / promised,
            )
    return None


@dataclass(frozen=True, eq=False)
class Flips:
    """The best fit of labels flipped at random."""

    share: float
    gain: float
    """Log likelihood won over no flips, in nats."""
    chance: Floats
    """[rows] probability of a positive label with them."""


def fit_flips(chance: Floats, labels: npt.NDArray[Any]) -> Flips:
    """The share of labels, flipped whatever the row is like, that fits best.

    >>> rng = np.random.default_rng(0)
    >>> chance = rng.uniform(size=4000)
    >>> labels = (rng.uniform(size=4000) < chance) ^ (rng.uniform(size=4000) < 0.2)
    >>> round(fit_flips(chance, labels.astype(int)).share, 1)
    0.2
    """
    positive = labels == 1

    def cost(share: float) -> float:
        flipped = chance + share * (1 - 2 * chance)
        return -float(np.log(np.where(positive, flipped, 1 - flipped)).sum())

    found = minimize_scalar(cost, bounds=(0.0, 0.999), method="bounded")
    share = float(found.x)
    return Flips(share, cost(0.0) - cost(share), chance + share * (1 - 2 * chance))


def by_arrival(
    excess: Floats, received: npt.NDArray[np.datetime64] | None
) -> LabelSuspicion | None:
    """Disagreement that begins or ends with the time labels came, and is sharp there.

    The world changes by when things happen; a broken job by when it wrote. So the excess loss is
    asked whether some stretch of arrivals holds nearly all of it.
    """
    if received is None or len(excess) < 200 or np.isnat(received).any():
        return None
    _, batch, counts = np.unique(
        received.astype("datetime64[s]"), return_inverse=True, return_counts=True
    )
    if not 2 <= len(counts) <= len(excess) / 20:
        return None
    means = np.bincount(batch, excess) / counts
    worst = int(np.argmax(means * (counts >= 20)))
    inside, rest = excess[batch == worst], excess[batch != worst]
    if len(inside) < 20 or len(rest) < 100:
        return None
    error = math.sqrt(float(inside.var()) / len(inside) + float(rest.var()) / len(rest))
    total = float(excess.sum())
    share = float(inside.sum()) / total if total > 0 else 0.0
    z = (float(inside.mean()) - float(rest.mean())) / max(error, 1e-12)
    if z < 6 or share < 0.6 or len(inside) > 0.5 * len(excess):
        return None
    return LabelSuspicion(
        f"{len(inside):,} labels that arrived together hold {share:.0%} of the excess loss", share
    )
