"""Data faults: what pipelines do to good rows."""

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from heliotrope.domain.synthetic.columns import Categorical, Column, Floats, LoanBatch, Mask
from heliotrope.domain.synthetic.knobs import Fault, FaultKind, must
from heliotrope.domain.synthetic.population import Kind, Population

Times = npt.NDArray[np.datetime64]

_NUMERIC_ONLY = (FaultKind.SCALE, FaultKind.INFINITE)


def check_fault(fault: Fault, population: Population) -> None:
    """Refuse a fault that the columns do not allow; UsageError says why."""
    if fault.kind is FaultKind.DUPLICATE_KEYS:
        must(fault.column == "loan_id", "column", "be loan_id for duplicate keys", fault.column)
        return
    names = ", ".join(population.marginals)
    must(fault.column in population.marginals, "column", f"be one of {names}", fault.column)
    kind = population.marginals[fault.column].kind
    numeric = kind in (Kind.CONTINUOUS, Kind.DISCRETE)
    if fault.kind in _NUMERIC_ONLY:
        must(numeric, "column", f"be a number for a {fault.kind} fault", f"{fault.column}, {kind}")
    if fault.kind is FaultKind.NEW_CATEGORY:
        must(kind is Kind.CATEGORY, "column", "be a category", f"{fault.column}, {kind}")
    if fault.kind is FaultKind.NULL:
        must(kind is not Kind.BOOLEAN, "column", "not be a boolean", fault.column)
    if fault.kind is FaultKind.SWAPPED:
        other = population.marginals.get(fault.other or "")
        must(
            other is not None and other is not population.marginals[fault.column],
            "other",
            f"be another of {names}",
            fault.other,
        )
        if other is not None:
            alike = (numeric and other.kind in (Kind.CONTINUOUS, Kind.DISCRETE)) or (
                kind is other.kind
            )
            must(alike, "other", f"be as {fault.column} is, {kind}", f"{fault.other}, {other.kind}")
    if fault.kind is FaultKind.RENAMED:
        must(fault.other not in population.marginals, "other", "be a new name", fault.other)


def in_force(start: datetime | None, until: datetime | None, times: Times) -> Mask:
    """Which rows [rows] lie in start <= time < until."""
    mask = np.ones(len(times), dtype=np.bool_)
    if start is not None:
        mask &= times >= np.datetime64(start, "us")
    if until is not None:
        mask &= times < np.datetime64(until, "us")
    return mask


def apply_fault(
    fault: Fault, columns: dict[str, Column], times: Times, chance: Floats, population: Population
) -> None:
    """Put one fault that is not structural into the columns.

    Args:
        fault: which was checked.
        columns: changed in place, by new arrays.
        times: [rows].
        chance: [rows] uniform draws of this fault's own.
        population: for the median that a stuck column shows.
    """
    hit = in_force(fault.start, fault.until, times) & (chance < fault.share)
    name, column = fault.column, columns[fault.column]
    if fault.kind is FaultKind.DUPLICATE_KEYS:
        # The first loan of all has no loan before it.
        columns[name] = np.maximum(np.asarray(column) - hit, 1)
    elif fault.kind is FaultKind.SWAPPED and fault.other is not None:
        columns[name], columns[fault.other] = _swap(column, columns[fault.other], hit)
    elif isinstance(column, Categorical):
        columns[name] = _fault_words(fault, column, hit)
    elif column.dtype == np.bool_:
        columns[name] = np.asarray(column, dtype=np.bool_) & ~hit
    else:
        columns[name] = _fault_numbers(fault, column.astype(np.float64), hit, population)


def _fault_words(fault: Fault, column: Categorical, hit: Mask) -> Categorical:
    values = column.values
    code = -1
    if fault.kind is FaultKind.STUCK:
        code = 0
    elif fault.kind is FaultKind.NEW_CATEGORY and fault.other is not None:
        values = tuple(dict.fromkeys((*values, fault.other)))
        code = values.index(fault.other)
    return Categorical(np.where(hit, np.int16(code), column.codes), values)


def _fault_numbers(fault: Fault, column: Floats, hit: Mask, population: Population) -> Floats:
    if fault.kind is FaultKind.SCALE:
        return np.where(hit, column * fault.factor, column)
    if fault.kind is FaultKind.STUCK:
        drawn = population.marginals[fault.column].draw(np.zeros(1, dtype=np.float32))
        stuck = np.nan if isinstance(drawn, Categorical) else float(np.asarray(drawn)[0])
        return np.where(hit, stuck, column)
    return np.where(hit, np.inf if fault.kind is FaultKind.INFINITE else np.nan, column)


def _swap(left: Column, right: Column, hit: Mask) -> tuple[Column, Column]:
    if isinstance(left, Categorical) and isinstance(right, Categorical):
        values = tuple(dict.fromkeys(left.values + right.values))
        a, b = left.recode(values).codes, right.recode(values).codes
        return (
            Categorical(np.where(hit, b, a), values),
            Categorical(np.where(hit, a, b), values),
        )
    a_numbers, b_numbers = np.asarray(left), np.asarray(right)
    return np.where(hit, b_numbers, a_numbers), np.where(hit, a_numbers, b_numbers)


def split_structure(batch: LoanBatch, faults: tuple[Fault, ...]) -> list[LoanBatch]:
    """Cut a batch where a column vanishes, comes back or is renamed, so that each part is whole."""
    structural = [fault for fault in faults if fault.kind.structural]
    if not structural:
        return [batch]
    times = np.asarray(batch.columns["issued_at"])
    edges = {0, len(batch)}
    for fault in structural:
        for moment in (fault.start, fault.until):
            if moment is not None:
                edges.add(int(np.searchsorted(times, np.datetime64(moment, "us"))))
    cuts = sorted(edges)
    parts = []
    for start, stop in pairwise(cuts):
        part = batch.take(start, stop)
        parts.append(part.with_columns(_restructured(part.columns, structural, times[start])))
    return parts


def _restructured(
    columns: Mapping[str, Column], structural: list[Fault], moment: np.datetime64
) -> dict[str, Column]:
    gone: dict[str, str | None] = {
        fault.column: fault.other if fault.kind is FaultKind.RENAMED else None
        for fault in structural
        if in_force(fault.start, fault.until, np.array([moment])).all()
    }
    renamed = ((gone.get(name, name), column) for name, column in columns.items())
    return {name: column for name, column in renamed if name is not None}
