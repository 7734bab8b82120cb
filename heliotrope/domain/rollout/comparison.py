"""From two versions' answers to always-valid evidence of which is better."""

import math
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from heliotrope.domain.outcomes import Outcomes, PairedOutcomes
from heliotrope.domain.rollout.betting import (
    growth_above,
    interval,
    log_wealth_above,
    log_wealth_below,
)
from heliotrope.domain.rollout.evidence import Comparison
from heliotrope.domain.rollout.loss import Loss, LossKind

Floats = npt.NDArray[np.float64]
RECENT_LABELS = 200
"""The rate of labels is taken over the last so many."""


def compare_pairs(loss: Loss, pairs: PairedOutcomes, alpha: float, now: datetime) -> Comparison:
    """Both versions on the same requests.

    Gains are taken in the order in which their labels came, since that is the order in which they
    could be looked at.

    Args:
        loss: what is compared.
        pairs: labelled or not; those from before the candidate's training cut-off left out.
        alpha: of each one-sided question.
        now: for the rate of labels.
    """
    champion = loss.of(
        pairs.champion_prediction, pairs.champion_score, pairs.champion_scores, pairs.label
    )
    candidate = loss.of(
        pairs.candidate_prediction, pairs.candidate_score, pairs.candidate_scores, pairs.label
    )
    known = np.flatnonzero(np.isfinite(champion) & np.isfinite(candidate))
    order = known[_as_told(pairs.label_received_at[known], pairs.prediction_id[known])]
    return _weigh(
        loss,
        champion[order],
        candidate[order],
        alpha,
        paired=True,
        pairs=len(pairs),
        agreement=_agreement(loss, pairs),
        rate=_rate(pairs.label_received_at[order], now),
    )


def compare_apart(
    loss: Loss, champion: Outcomes, candidate: Outcomes, share: int, alpha: float, now: datetime
) -> Comparison:
    """Both versions on different requests, which the gateway dealt out by chance.

    Each of the fewer answers is set against the mean of a block of the others, as many as the
    shares say: differences of independent means in [-1, 1], to bet on like pairs.

    Args:
        loss: what is compared.
        champion: its labelled outcomes while both answered.
        candidate: the same of the candidate.
        share: per cent of the traffic that the candidate had.
        alpha: of each one-sided question.
        now: for the rate of labels.
    """
    ours, theirs = _losses(loss, champion), _losses(loss, candidate)
    block = max(1, round((100 - share) / max(share, 1)))
    turned = max(1, round(share / max(100 - share, 1)))
    first, second = _blocks(ours[0], block), _blocks(theirs[0], turned)
    count = min(len(first), len(second))
    return _weigh(
        loss,
        first[:count],
        second[:count],
        alpha,
        paired=False,
        pairs=min(len(champion), len(candidate)),
        agreement=math.nan,
        rate=_rate(theirs[1], now) / turned,
    )


def _losses(loss: Loss, rows: Outcomes) -> tuple[Floats, npt.NDArray[np.datetime64]]:
    found = loss.of(rows.prediction, rows.score, rows.scores, rows.label)
    known = np.flatnonzero(np.isfinite(found))
    order = known[_as_told(rows.label_received_at[known], rows.prediction_id[known])]
    return found[order], rows.label_received_at[order]


def _as_told(
    told: npt.NDArray[np.datetime64], ids: npt.NDArray[np.object_]
) -> npt.NDArray[np.int64]:
    return np.lexsort((ids.astype(str), told))


def _blocks(losses: Floats, size: int) -> Floats:
    whole = len(losses) // size * size
    return np.asarray(losses[:whole].reshape(-1, size).mean(axis=1))


def _weigh(
    loss: Loss,
    champion: Floats,
    candidate: Floats,
    alpha: float,
    *,
    paired: bool,
    pairs: int,
    agreement: float,
    rate: float,
) -> Comparison:
    gains = champion - candidate
    low, high = interval(gains, alpha)
    seen = len(gains) > 0
    return Comparison(
        paired=paired,
        loss=loss.text,
        bound=loss.bound,
        pairs=pairs,
        labelled=len(gains),
        gain=float(gains.mean()) if seen else math.nan,
        low=low,
        high=high,
        log_e_better=log_wealth_above(gains, loss.bound),
        log_e_worse=log_wealth_below(gains, loss.bound),
        growth=growth_above(gains, loss.bound),
        champion_loss=float(champion.mean()) if seen else math.nan,
        candidate_loss=float(candidate.mean()) if seen else math.nan,
        agreement=agreement,
        label_rate=rate,
    )


def _agreement(loss: Loss, pairs: PairedOutcomes) -> float:
    if len(pairs) == 0:
        return math.nan
    if loss.kind in (LossKind.ABSOLUTE, LossKind.SQUARED):
        apart = np.abs(pairs.champion_score - pairs.candidate_score) / loss.scale
        usable = apart[np.isfinite(apart)]
        return 1.0 - float(np.minimum(usable, 1.0).mean()) if len(usable) else math.nan
    return float((pairs.champion_prediction == pairs.candidate_prediction).mean())


def _rate(told: npt.NDArray[np.datetime64], now: datetime) -> float:
    """Labels an hour over the last `RECENT_LABELS`; NaN where none came."""
    late = told[-RECENT_LABELS:]
    if len(late) == 0:
        return math.nan
    first = datetime.fromtimestamp(
        int(late[0].astype("datetime64[us]").astype(np.int64)) / 1e6, UTC
    )
    hours = (now - first).total_seconds() / 3600
    return len(late) / hours if hours > 0 else math.nan
