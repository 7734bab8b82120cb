"""The population that generated loans are drawn from: a Gaussian copula fitted to real loans.

Every column is a monotone function of its own standard normal, and the normals are correlated
(Cario and Nelson 1997, "Modeling and generating random vectors with arbitrary marginal
distributions", NORTA). A missing value is the far end of its column's normal: a loan without a
`months_since_last_delinq` has none because nothing was ever late, which is the far end of "long
ago". So missingness is correlated with the rest, as it is in the real loans.

`credit_population.json` beside this file holds the functions and the correlations, and says what
wrote it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from heliotrope.domain.synthetic.columns import Categorical, Column, Floats

Normals: TypeAlias = npt.NDArray[np.float32]

GRID_LIMIT = 4.0
GRID_PER_UNIT = 16
"""Quantiles are stored at normals from -4 to 4, this many a unit, and joined by lines."""


class Kind(StrEnum):
    """How a column's normal becomes its value."""

    CONTINUOUS = "continuous"
    """By a quantile table."""
    DISCRETE = "discrete"
    """By cuts between the few numbers it takes."""
    CATEGORY = "category"
    """By cuts between words."""
    BOOLEAN = "boolean"
    """By one cut."""


@dataclass(frozen=True)
class Marginal:
    """One column's distribution."""

    name: str
    kind: Kind
    integer: bool
    """Whether values are whole numbers."""
    values: Floats
    """Quantiles at the grid, or the value between two cuts (NaN is missing)."""
    words: tuple[str, ...]
    """Of a category, in the order of its normal."""
    cuts: Normals
    """Rising normals; for a continuous column those of its missing ends, often infinite."""
    step: float
    """What a continuous value is rounded to."""
    source: str
    """The column whose normal it shares."""

    def draw(self, normals: Normals) -> Column:
        """Values [rows] for normals [rows]."""
        if self.kind is Kind.CONTINUOUS:
            return self._interpolate(normals)
        position = np.searchsorted(self.cuts, normals)
        if self.kind is Kind.CATEGORY:
            return Categorical(position.astype(np.int16), self.words)
        if self.kind is Kind.BOOLEAN:
            return np.asarray(position, dtype=np.bool_)
        drawn: Floats = self.values[position]
        return drawn if not self.integer or np.isnan(self.values).any() else drawn.astype(np.int64)

    def _interpolate(self, normals: Normals) -> Column:
        place = (np.clip(normals, -GRID_LIMIT, GRID_LIMIT) + GRID_LIMIT) * GRID_PER_UNIT
        left = np.minimum(place.astype(np.int32), len(self.values) - 2)
        low = self.values[left]
        value: Floats = low + (self.values[left + 1] - low) * (place - left)
        # numpy rounds to decimals without the dust that a multiple of 0.01 has.
        value = (
            np.round(value, -round(np.log10(self.step)))
            if self.step < 1
            else np.round(value / self.step) * self.step
        )
        has_missing = bool(np.isfinite(self.cuts).any())
        if has_missing:
            value[(normals < self.cuts[0]) | (normals >= self.cuts[1])] = np.nan
        return value.astype(np.int64) if self.integer and not has_missing else value


@dataclass(frozen=True)
class Population:
    """All marginals and what ties them together."""

    marginals: Mapping[str, Marginal]
    sources: tuple[str, ...]
    """Columns that have a normal of their own, in the order of `factor`."""
    factor: npt.NDArray[np.float32]
    """[sources, sources] lower Cholesky factor of the normals' correlations."""

    def normals(self, independent: Normals) -> Normals:
        """Correlated normals [sources, rows] of independent ones of the same shape."""
        return self.factor @ independent

    def columns(self, normals: Normals) -> dict[str, Column]:
        """Every column, in the order of the file, of correlated normals [sources, rows]."""
        row = {name: index for index, name in enumerate(self.sources)}
        return {
            name: marginal.draw(normals[row[marginal.source]])
            for name, marginal in self.marginals.items()
        }


@cache
def credit_population() -> Population:
    """The population fitted to the real loans of the credit example."""
    text = files("heliotrope.domain.synthetic").joinpath("credit_population.json").read_text()
    return population_of(json.loads(text))


def population_of(fitted: Mapping[str, Any]) -> Population:
    """A population of what the fitting script wrote."""
    correlation = np.array(fitted["correlation"], dtype=np.float64)
    return Population(
        marginals={item["name"]: _marginal(item) for item in fitted["columns"]},
        sources=tuple(fitted["sources"]),
        factor=np.linalg.cholesky(correlation).astype(np.float32),
    )


def _marginal(item: Mapping[str, Any]) -> Marginal:
    kind = Kind(item["kind"])
    words = tuple(item["values"]) if kind is Kind.CATEGORY else ()
    numbers = () if kind is Kind.CATEGORY else item["values"]
    open_ends = (-np.inf, np.inf)
    cuts = [open_ends[index] if cut is None else cut for index, cut in enumerate(item["cuts"])]
    return Marginal(
        name=item["name"],
        kind=kind,
        integer=item["integer"],
        values=np.array([np.nan if v is None else v for v in numbers], dtype=np.float64),
        words=words,
        cuts=np.array(cuts, dtype=np.float32),
        step=item["step"],
        source=item["source"],
    )
