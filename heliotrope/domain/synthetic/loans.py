"""The loan generator: seeded, in chunks, with known truth and with trouble on demand.

Rows are made in blocks of fixed size, each with random streams of its own (numpy's SeedSequence
of seed, block and purpose). So a row is the same whatever the chunk size, whatever rows are asked
for, and whatever other knobs are turned: a concept shift changes labels and not one feature.
"""

from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache

import numpy as np

from heliotrope.domain.synthetic.columns import Categorical, Column, Floats, LoanBatch, concat
from heliotrope.domain.synthetic.faults import (
    Times,
    apply_fault,
    check_fault,
    in_force,
    split_structure,
)
from heliotrope.domain.synthetic.knobs import FaultKind, LoanKnobs, Ramp, must
from heliotrope.domain.synthetic.population import Kind, Normals, credit_population
from heliotrope.domain.synthetic.truth import Truth, calibrate

BLOCK = 16_384
_FEATURES, _TIMES, _LABELS, _NOISE, _FAULTS = range(5)
_REFERENCE_SEED = 20_180_101
_REFERENCE_BLOCKS = 8

RECESSION = {
    "annual_income": -0.8,
    "emp_length": -0.7,
    "debt_to_income": 0.7,
    "credit_utilization": 0.6,
    "interest_rate": 0.6,
    "inquiries_last_12m": 0.5,
    "homeownership": -0.4,
    "loan_amount": -0.2,
}
"""Where a covariate shift of strength 1 moves columns, in standard deviations of their normals:
less income, shorter or no employment, more debt, dearer money."""


def generate_loans(knobs: LoanKnobs) -> LoanBatch:
    """All loans at once; UsageError when a structural fault starts in the middle."""
    whole = list(LoanGenerator(knobs).batches(chunk_rows=knobs.rows))
    must(
        len(whole) == 1,
        "faults",
        "not change the columns in the middle; take batches instead",
        f"{len(whole)} sets of columns",
    )
    return whole[0]


class LoanGenerator:
    """Loans of some knobs, in order of time.

    >>> from heliotrope.domain.synthetic.knobs import LoanKnobs
    >>> batches = list(LoanGenerator(LoanKnobs(rows=10)).batches(chunk_rows=4))
    >>> [len(batch) for batch in batches]
    [4, 4, 2]
    """

    def __init__(self, knobs: LoanKnobs) -> None:
        """Check the knobs against the columns and find the truth of the default rate.

        Raises:
            UsageError: a fault or a segment does not fit its column.
        """
        self.knobs = knobs
        self.population = credit_population()
        for fault in knobs.faults:
            check_fault(fault, self.population)
        for shift in knobs.concept_shifts:
            if shift.segment is not None:
                self._check_segment(*shift.segment)
        self.truth = _truth(knobs.default_rate, knobs.signal)

    def _check_segment(self, column: str, value: str) -> None:
        categories = {
            name: marginal.words
            for name, marginal in self.population.marginals.items()
            if marginal.kind is Kind.CATEGORY
        }
        names = ", ".join(categories)
        must(column in categories, "segment", f"be of a category, one of {names}", column)
        words = ", ".join(categories[column])
        must(value in categories[column], "segment", f"be one of {words}", value)

    def batches(
        self, chunk_rows: int = 4 * BLOCK, first: int = 0, stop: int | None = None
    ) -> Iterator[LoanBatch]:
        """Loans `first` to `stop` (all when left out), `chunk_rows` at a time.

        A batch is shorter where a structural fault begins or ends, so that every batch has one
        set of columns.
        """
        must(chunk_rows >= 1, "chunk_rows", "be 1 or more", chunk_rows)
        end = self.knobs.rows if stop is None else min(stop, self.knobs.rows)
        block_at = lru_cache(maxsize=1)(self._block)
        for start in range(first, end, chunk_rows):
            finish = min(start + chunk_rows, end)
            parts = []
            for block in range(start // BLOCK, (finish - 1) // BLOCK + 1):
                base = block * BLOCK
                made = block_at(block)
                parts.append(made.take(max(start - base, 0), min(finish - base, len(made))))
            yield from split_structure(concat(parts), self.knobs.faults)

    def column_kinds(self) -> dict[str, str]:
        """`integer`, `float`, `category` or `boolean` of each feature, as the knobs leave it.

        A whole number that is scaled, swapped or made infinite is a float in all batches.
        """
        broken = {FaultKind.SCALE, FaultKind.SWAPPED, FaultKind.INFINITE}
        floats = {
            name
            for fault in self.knobs.faults
            if fault.kind in broken
            for name in (fault.column, fault.other)
        }
        kinds = {}
        for name, marginal in self.population.marginals.items():
            if marginal.kind in (Kind.CATEGORY, Kind.BOOLEAN):
                kinds[name] = marginal.kind.value
            else:
                kinds[name] = "integer" if marginal.integer and name not in floats else "float"
        for fault in self.knobs.faults:
            if fault.kind is FaultKind.RENAMED and fault.other is not None:
                kinds[fault.other] = kinds[fault.column]
        return kinds

    def _stream(self, block: int, purpose: int, extra: int = 0) -> np.random.Generator:
        return _stream(self.knobs.seed, block, purpose, extra)

    def _block(self, block: int) -> LoanBatch:
        knobs = self.knobs
        first = block * BLOCK
        rows = min(BLOCK, knobs.rows - first)
        times = self._times(block)[:rows]
        normals = _block_normals(knobs.seed, block)[:, :rows]
        for shift in knobs.covariate_shifts:
            weight = (shift.strength * _ramp(shift.ramp, times)).astype(np.float32)
            normals = _moved(normals, weight)
        features = self.population.columns(normals)
        probability = self._probability(features, times)
        columns: dict[str, Column] = {
            "loan_id": np.arange(first + 1, first + rows + 1),
            "issued_at": times,
            **features,
        }
        for index, fault in enumerate(knobs.faults):
            if not fault.kind.structural:
                chance = self._stream(block, _FAULTS, index).random(BLOCK)[:rows]
                apply_fault(fault, columns, times, chance, self.population)
        columns["defaulted"] = self._labels(block, probability, times)
        return LoanBatch(first, columns, probability)

    def _times(self, block: int) -> Times:
        # Each loan has an equal slot of the period and lies anywhere in it, so they are ordered.
        place = block * BLOCK + np.arange(BLOCK) + self._stream(block, _TIMES).random(BLOCK)
        microseconds = timedelta(days=self.knobs.days) / timedelta(microseconds=1)
        offset = (place * (microseconds / self.knobs.rows)).astype("timedelta64[us]")
        return np.datetime64(self.knobs.start, "us") + offset

    def _probability(self, features: dict[str, Column], times: Times) -> Floats:
        mix, log_odds = np.zeros(len(times)), np.zeros(len(times))
        for shift in self.knobs.concept_shifts:
            weight = _ramp(shift.ramp, times)
            if shift.segment is not None:
                column = features[shift.segment[0]]
                if isinstance(column, Categorical):
                    weight *= column.codes == column.values.index(shift.segment[1])
            # Two shifts of the same rows mix at most to the turned scorecard.
            mix = np.minimum(mix + shift.strength * weight, 1.0)
            log_odds += shift.log_odds * weight
        return self.truth.probability(features, mix, log_odds)

    def _labels(self, block: int, probability: Floats, times: Times) -> Column:
        rows = len(probability)
        defaulted = self._stream(block, _LABELS).random(BLOCK)[:rows] < probability
        noise = self.knobs.label_noise
        if noise is None:
            return defaulted
        flipped = self._stream(block, _NOISE).random(BLOCK)[:rows] < noise.share
        return defaulted ^ (flipped & in_force(noise.start, None, times))


def _stream(seed: int, block: int, purpose: int, extra: int = 0) -> np.random.Generator:
    return np.random.Generator(
        np.random.SFC64(np.random.SeedSequence([seed, block, purpose, extra]))
    )


def _block_normals(seed: int, block: int) -> Normals:
    population = credit_population()
    stream = _stream(seed, block, _FEATURES)
    return population.normals(
        stream.standard_normal((len(population.sources), BLOCK), dtype=np.float32)
    )


def _moved(normals: Normals, weight: Normals) -> Normals:
    moved = normals.copy()
    for index, name in enumerate(credit_population().sources):
        if name in RECESSION:
            moved[index] += np.float32(RECESSION[name]) * weight
    return moved


def _ramp(ramp: Ramp, times: Times) -> Floats:
    """Weight [rows] from 0 before the ramp to 1 after it."""
    if ramp.start is None:
        return np.ones(len(times))
    since = (times - np.datetime64(ramp.start, "us")) / np.timedelta64(1, "us")
    if not ramp.over:
        return (since >= 0).astype(np.float64)
    weight: Floats = np.clip(since / (ramp.over / timedelta(microseconds=1)), 0.0, 1.0)
    return weight


@lru_cache(maxsize=32)
def _truth(rate: float, signal: float) -> Truth:
    # A reference of its own, so that the truth depends on no seed and no shift.
    normals = [_block_normals(_REFERENCE_SEED, block) for block in range(_REFERENCE_BLOCKS)]
    return calibrate(credit_population().columns(np.concatenate(normals, axis=1)), rate, signal)
