"""All watches of a model, and what a mature window does to them: pure.

The false alarms that the spec allows are shared out: without slices the model as a whole has them
all; with slices it has half, and each feature that cuts the model into slices an equal part of the
other half.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import numpy as np
from pydantic import Field

from heliotrope.domain.accuracy import (
    BASE_ROWS,
    AlarmKind,
    LossBase,
    Watch,
    afresh,
    error_watch,
    feed,
    loss_watch,
    tolerated,
)
from heliotrope.domain.document import Document
from heliotrope.domain.outcomes import FloatVector, Outcomes
from heliotrope.domain.row_loss import SCALES, LossKind, floor_as_loss, loss_kind, row_losses
from heliotrope.domain.sequential.design import ErrorBase, NoChartsError
from heliotrope.domain.triggers import AcceptedLevel
from heliotrope.domain.truth.documents import WindowTruth
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.spec import ModelSpec

WHOLE = ""
SLICE_ROWS = 200
"""Labelled rows behind the accepted level of a slice, at least."""


class Missed(Document):
    """Windows whose interval of the primary metric lies wholly beyond the floor; for metrics that
    are no mean of losses."""

    recent: tuple[bool, ...] = ()
    """Of the last `monitoring.n` windows, oldest first."""
    starts: tuple[datetime, ...] = ()
    """Of the same windows."""
    since: datetime | None = None
    """Start of the first of them, while the alarm is on."""
    value: float = 0.0
    """Of the latest window."""
    low: float = 0.0
    high: float = 0.0
    rows: int = 0


class AccuracyState(Document):
    """What the accuracy duty remembers of a model."""

    version: str | None = None
    """The champion whose outcomes are watched."""
    scale: float | None = None
    """Of a regression's losses, in the label's unit."""
    bases: dict[str, LossBase] = Field(default_factory=dict)
    """What was accepted, by slice; never changed once a watch rests on it."""
    falls: dict[str, Watch] = Field(default_factory=dict)
    """By slice; the whole model under an empty name."""
    floor: Watch | None = None
    missed: Missed = Missed()


def advanced(
    spec: ModelSpec,
    state: AccuracyState,
    rows: Outcomes,
    truth: WindowTruth,
    accepted: AcceptedLevel | None,
) -> AccuracyState:
    """The state after a mature window of one version.

    Args:
        spec: of the model.
        state: before.
        rows: the window's labelled outcomes of that version as champion, in order of time.
        truth: of the same rows.
        accepted: the level that was accepted first, where it is known.
    """
    if truth.version != state.version:
        state = _another(state, truth.version)
    if len(rows) == 0:
        return state
    kind, scale = loss_kind(spec), state.scale
    if kind is LossKind.SCALED and scale is None:
        scale = _scale(rows, accepted)
    losses = row_losses(kind, rows, scale or 1.0)
    state = state.model_copy(update={"scale": scale})
    state = _floor(spec, state, kind, losses, rows, truth)
    for name, mask in _parts(spec, rows).items():
        state = _fall(spec, state, kind, name, losses[mask], rows.where(mask), truth, accepted)
    return state


def _another(state: AccuracyState, version: str) -> AccuracyState:
    return state.model_copy(
        update={
            "version": version,
            "falls": {name: afresh(watch) for name, watch in state.falls.items()},
            "floor": afresh(state.floor) if state.floor else None,
            "missed": Missed(),
        }
    )


def _scale(rows: Outcomes, accepted: AcceptedLevel | None) -> float:
    if accepted is not None and accepted.watched and accepted.watched.kind is LossKind.SCALED:
        return accepted.watched.scale
    error = float(np.abs(rows.score - rows.label).mean())
    return SCALES * error if error > 0 else 1.0


def _parts(spec: ModelSpec, rows: Outcomes) -> dict[str, np.ndarray]:
    plan = TruthPlan.of(spec)
    parts = {WHOLE: np.ones(len(rows), bool)}
    for place, axis in enumerate(plan.axes):
        codes = rows.slices[axis.feature]
        for code in np.unique(codes).tolist():
            parts[plan.slice_name(place, code) or WHOLE] = codes == code
    return parts


def _fall(
    spec: ModelSpec, state: AccuracyState, kind: LossKind, name: str, losses: FloatVector,
    rows: Outcomes, truth: WindowTruth, accepted: AcceptedLevel | None,
) -> AccuracyState:  # fmt: skip
    watch = state.falls.get(name)
    if watch is None:
        base = _accepted_base(kind, accepted, state.scale or 1.0) if name == WHOLE else None
        known = state.bases.get(name)
        if base is None and known is not None and known.rows >= _needed(spec, name):
            base = known
        if base is None:
            base = _learnt(known, losses, truth)
            return state.model_copy(update={"bases": {**state.bases, name: base}})
        state = state.model_copy(update={"bases": {**state.bases, name: base}})
        watch = _fall_watch(spec, kind, name, base, state.scale or 1.0)
    after = feed(watch, losses, rows.predicted_at, truth.window_from)
    return state.model_copy(update={"falls": {**state.falls, name: after}})


def _needed(spec: ModelSpec, name: str) -> int:
    return BASE_ROWS if name == WHOLE else max(SLICE_ROWS, spec.gates.slice_minimum_rows)


def _accepted_base(kind: LossKind, accepted: AcceptedLevel | None, scale: float) -> LossBase | None:
    """What the holdout showed.

    A level that is learnt from outcomes instead takes a world that changed meanwhile for well.
    """
    if accepted is None or accepted.rows < 1:
        return None
    source = f"the holdout of version {accepted.version}"
    seen = accepted.watched
    if seen is None and kind is LossKind.ERROR and accepted.metric == "accuracy":
        errors = (1 - accepted.value) * accepted.rows
        return LossBase(rows=accepted.rows, total=errors, squares=errors, source=source)
    if seen is None or seen.kind is not kind:
        return None
    if kind is not LossKind.ERROR and not 0 < seen.total < seen.rows:
        # However few errors there were the charts allow for that; other tests know no such base.
        return None
    # Of another scale only where the level was written down after the first outcomes came.
    unit = seen.scale / scale
    total, squares = seen.total * unit, seen.squares * unit**2
    return LossBase(rows=seen.rows, total=total, squares=squares, source=source)


def _learnt(base: LossBase | None, losses: FloatVector, truth: WindowTruth) -> LossBase:
    known = base or LossBase(
        rows=0, total=0.0, squares=0.0,
        source=f"the first outcomes of version {truth.version}, from {truth.window_from:%Y-%m-%d}",
    )  # fmt: skip
    return known.model_copy(
        update={
            "rows": known.rows + len(losses),
            "total": known.total + float(losses.sum()),
            "squares": known.squares + float((losses**2).sum()),
        }
    )


def _fall_watch(spec: ModelSpec, kind: LossKind, name: str, base: LossBase, scale: float) -> Watch:
    policy, axes = spec.monitoring, len(spec.slices)
    length = float(policy.run_length * (1 if not axes else 2 if name == WHOLE else 2 * axes))
    if kind is LossKind.ERROR and name == WHOLE:
        with suppress(NoChartsError):
            return error_watch(ErrorBase(errors=base.total, rows=base.rows), policy.fall, length)
    # A slice's level rests on few rows, for which charts take seconds to design.
    fall = {"accuracy": policy.fall, "brier": policy.fall, "mae": policy.fall / scale}.get(
        spec.metrics.primary
    )
    bound, over = tolerated(base, fall)
    return loss_watch(AlarmKind.FALL, kind, bound, over, length)


def _floor(
    spec: ModelSpec, state: AccuracyState, kind: LossKind, losses: FloatVector, rows: Outcomes,
    truth: WindowTruth,
) -> AccuracyState:  # fmt: skip
    if spec.monitoring.floor is None:
        return state
    bound = floor_as_loss(spec, state.scale or 1.0)
    if bound is None:
        return state.model_copy(update={"missed": _missed(spec, state.missed, truth)})
    watch = state.floor or loss_watch(
        AlarmKind.FLOOR, kind, bound, bound, float(spec.monitoring.run_length)
    )
    after = feed(watch, losses, rows.predicted_at, truth.window_from)
    return state.model_copy(update={"floor": after})


def _missed(spec: ModelSpec, before: Missed, truth: WindowTruth) -> Missed:
    policy, found = spec.monitoring, truth.metrics.get(truth.primary)
    if found is None or policy.floor is None or not np.isfinite([found.low, found.high]).all():
        return before
    more = TruthPlan.of(spec).greater_is_better
    beyond = found.high < policy.floor if more else found.low > policy.floor
    recent = (*before.recent, beyond)[-policy.n :]
    starts = (*before.starts, truth.window_from)[-policy.n :]
    since = before.since if any(recent) else None
    if since is None and beyond and sum(recent) >= policy.k:
        since = starts[recent.index(True)]
    return Missed(
        recent=recent, starts=starts, since=since, value=found.value, low=found.low,
        high=found.high, rows=truth.labelled,
    )  # fmt: skip


def by_version(rows: Outcomes, current: str | None) -> Sequence[tuple[str, Outcomes]]:
    """The rows of each version that was champion within a window, in order of reign.

    In-flight answers of the version before may come after the first of the next: they are counted
    with its others, and left out where its reign was over before the window.

    Args:
        rows: in order of time.
        current: the champion when the window began, as far as is known.
    """
    if len(rows) == 0:
        return []
    latest = str(rows.version[-1])
    middles: Mapping[str, float] = {
        version: float(np.median(rows.predicted_at[rows.version == version].astype(np.int64)))
        for version in np.unique(rows.version.astype(str)).tolist()
    }
    order = sorted(
        middles, key=lambda version: (version == latest, version != current, middles[version])
    )
    reigning = [latest] if latest == current else order
    return [(version, rows.where(rows.version == version)) for version in reigning]
