"""Metrics of numbers from a cell, whose sums are kept by decade."""

import math
from fractions import Fraction

from heliotrope.domain.evaluation import MetricValue
from heliotrope.domain.truth import intervals
from heliotrope.domain.truth.cell import Cell
from heliotrope.domain.truth.plan import TruthPlan
from heliotrope.domain.truth.statistics import (
    DECADE_OFFSET,
    ERROR,
    FOURTH_UNIT,
    LABEL,
    SPLIT,
    UNIT,
)


def regression_metrics(cell: Cell, plan: TruthPlan) -> dict[str, MetricValue]:
    """The plan's metrics with intervals; the R2's takes the labels' variance as known."""
    rows, absolute, squared, fourth = _errors(cell)
    variance = _label_variance(cell)
    mae = intervals.mean(absolute, squared, rows)
    mse = intervals.mean(squared, fourth, rows)
    found = {
        "mae": mae,
        "rmse": MetricValue(value=math.sqrt(mse.value), low=_root(mse.low), high=_root(mse.high)),
        "r2": intervals.UNDEFINED,
    }
    if variance > 0:
        found["r2"] = MetricValue(
            value=1 - mse.value / variance,
            low=1 - mse.high / variance,
            high=1 - mse.low / variance,
        )
    return {name: found[name] for name in plan.metrics}


def _root(value: float) -> float:
    return math.sqrt(value) if value >= 0 else math.nan


def _errors(cell: Cell) -> tuple[int, float, float, float]:
    part = cell.part(ERROR)
    rows = int(part.n.sum())
    sums = [Fraction(0), Fraction(0), Fraction(0)]
    for decade, entry in zip(part.bin, part.sums, strict=True):
        unit = Fraction(10) ** (int(decade) - DECADE_OFFSET)
        sums[0] += Fraction(int(entry[1]), UNIT) * unit
        sums[1] += Fraction(int(entry[2]), UNIT) * unit**2
        sums[2] += Fraction(int(entry[3]), FOURTH_UNIT) * unit**4
    absolute, squared, fourth = (float(total / rows) for total in sums)
    return rows, absolute, squared, fourth


def _label_variance(cell: Cell) -> float:
    # Exact: a float's sum of squares less the square of the sum loses all of a small variance.
    part = cell.part(LABEL)
    rows = int(part.n.sum())
    total, squares = Fraction(0), Fraction(0)
    for decade, entry in zip(part.bin, part.sums, strict=True):
        unit = Fraction(10) ** (int(decade) - DECADE_OFFSET) / UNIT
        high, low, high2, both, low2 = (int(number) for number in entry[1:])
        total += (high * SPLIT + low) * unit
        squares += (high2 * SPLIT**2 + 2 * both * SPLIT + low2) * unit**2
    return float(squares / rows - (total / rows) ** 2)
