"""From folded cells to documents: what depends on now, and on the windows before."""

import math
import operator
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from heliotrope.domain import estimate as cbpe
from heliotrope.domain.truth.cell import CellKey
from heliotrope.domain.truth.documents import (
    Estimate,
    Folded,
    FoldedEstimate,
    Maturity,
    WindowTruth,
)
from heliotrope.domain.truth.plan import WHOLE, TruthPlan
from heliotrope.spec.metrics import METRICS


@dataclass(frozen=True)
class _Trust:
    """What mature windows so far say of one version's scores in one role."""

    contradiction: cbpe.Contradiction = field(default_factory=cbpe.Contradiction)
    gaps: tuple[float, ...] = ()
    """By group, positives expected less those that came, over the mature windows before."""
    rows: int = 0

    @property
    def calibration_error(self) -> float:
        """Of all these rows together: of one window's alone chance makes the most of it, above all
        where positives are rare."""
        if not self.rows:
            return cbpe.UNMEASURED_CALIBRATION
        return sum(map(abs, self.gaps)) / self.rows


def maturity(plan: TruthPlan, window: int, folded: Folded, now: datetime) -> Maturity:
    """Whether a window may be judged on at a time."""
    start, end = plan.window_start(window), plan.window_start(window + 1)
    if start > now:
        return Maturity.FUTURE
    if end > now:
        return Maturity.OPEN
    if folded.labelled and folded.labelled >= plan.mature_coverage * folded.predicted:
        return Maturity.BY_COVERAGE
    if end + timedelta(microseconds=plan.delay_us) > now:
        return Maturity.MATURING
    return Maturity.BY_DELAY if folded.labelled else Maturity.UNLABELLED


def windows(
    plan: TruthPlan,
    folded: Sequence[tuple[CellKey, Folded]],
    now: datetime,
    since: datetime | None = None,
    only: Collection[CellKey] | None = None,
) -> list[WindowTruth]:
    """Every window's truth, by time, version, role, whole before slices.

    Args:
        plan: of the model.
        folded: by rising window.
        now: UTC; decides maturity.
        since: leaves out windows that ended at or before it.
        only: leaves out others, where given; those before still say how far to trust estimates.
    """
    trust = dict(_trusted(plan, folded, now))
    first = plan.window_of(since) if since is not None else None
    return [
        _truth(plan, key, part, maturity(plan, key.window, part, now), trust)
        for key, part in folded
        if (first is None or key.window >= first) and (only is None or key in only)
    ]


_Place = tuple[int, str, str]


def _trusted(
    plan: TruthPlan, folded: Sequence[tuple[CellKey, Folded]], now: datetime
) -> Iterable[tuple[_Place, tuple[cbpe.Contradiction, float]]]:
    # A window's own labels may contradict its own estimate, but only windows before it measure
    # how well calibrated the scores are: its error bound is one that could have been given then.
    states: dict[tuple[str, str], _Trust] = {}
    for key, part in folded:
        if key.axis != WHOLE:
            continue
        state = states.get((key.version, key.role), _Trust())
        known = state.calibration_error
        if maturity(plan, key.window, part, now).mature:
            state = _after(state, plan, part)
            states[key.version, key.role] = state
        yield (key.window, key.version, key.role), (state.contradiction, known)


def _after(state: _Trust, plan: TruthPlan, part: Folded) -> _Trust:
    claimed = part.estimate.get(plan.primary)
    miss = claimed.value - part.metrics[plan.primary].value if claimed else math.nan
    if not part.calibration_gaps:
        return state
    before = state.gaps or (0.0,) * len(part.calibration_gaps)
    return _Trust(
        state.contradiction.after(part.log_evidence, miss),
        tuple(map(operator.add, before, part.calibration_gaps)),
        state.rows + part.labelled,
    )


def _truth(
    plan: TruthPlan,
    key: CellKey,
    part: Folded,
    grown: Maturity,
    trust: dict[_Place, tuple[cbpe.Contradiction, float]],
) -> WindowTruth:
    contradiction, calibration = trust[key.window, key.version, key.role]
    return WindowTruth(
        model=plan.model,
        version=key.version,
        role=key.role,
        slice=plan.slice_name(key.axis, key.code),
        window_from=plan.window_start(key.window),
        window_to=plan.window_start(key.window + 1),
        predicted=part.predicted,
        labelled=part.labelled,
        unjudged=part.unjudged,
        coverage=part.labelled / part.predicted,
        correct=part.correct,
        class_counts=part.class_counts,
        primary=plan.primary,
        metrics=part.metrics,
        binning_error=part.binning_error,
        delay=part.delay,
        maturity=grown,
        estimate={
            name: _estimate(name, value, calibration, contradiction.marked)
            for name, value in part.estimate.items()
        },
    )


def _estimate(name: str, part: FoldedEstimate, calibration: float, marked: bool) -> Estimate:
    info, slack = METRICS[name], part.sensitivity * calibration
    low, high = part.low - slack, part.high + slack
    return Estimate(
        value=part.value,
        low=low if info.low is None else max(info.low, low),
        high=high if info.high is None else min(info.high, high),
        unreliable=marked,
    )
