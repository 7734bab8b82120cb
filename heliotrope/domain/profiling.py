"""Profiles of a snapshot's columns, gathered from an Ibis table in few passes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heliotrope.domain import statistics
from heliotrope.domain.quality import ColumnProfile
from heliotrope.spec import FeatureType, ModelSpec
from heliotrope.vocabulary import Task

QUANTILES = 101
COLUMNS_A_SAMPLE = 32
"""Columns whose samples are in memory at once: 32 x 200,000 x 8 bytes is 50 MB."""


@dataclass(frozen=True)
class Profiled:
    """What is known of one snapshot."""

    rows: int
    columns: tuple[ColumnProfile, ...]
    """Features in the spec's order, then the label; those the table does not have left out."""

    def column(self, name: str) -> ColumnProfile | None:
        """The profile of a column, if it is there."""
        return next((profile for profile in self.columns if profile.name == name), None)


def profile(table: Any, spec: ModelSpec, rows: int) -> Profiled:
    """Profile the features and the label of a snapshot.

    Args:
        table: Ibis table with `_row`.
        spec: names the columns; one that the table lacks is skipped.
        rows: how many rows the table has.
    """
    there = set(table.columns)
    names = [name for name in (*spec.feature_names, spec.label.name) if name in there]
    exact = rows <= statistics.EXACT_DISTINCT_ROWS
    moments = statistics.moments(table, names, exact)
    numbers = [name for name in names if _is_number(table, spec, name)]
    quantiles = _quantiles(table, numbers, rows, moments)
    profiles = []
    for name in names:
        found = moments[name]
        held = rows - int(found["nulls"] or 0)
        shares: dict[str, float] = {}
        if name not in quantiles and held:
            shares = {
                share_name(value): count / held
                for value, count in statistics.value_counts(table, name)
            }
        profiles.append(
            ColumnProfile(
                name=name,
                type=str(table[name].type()),
                rows=rows,
                nulls=int(found["nulls"] or 0),
                distinct=int(found["distinct"] or 0),
                infinite=int(found.get("infinite") or 0),
                mean=found.get("mean") if name in quantiles else None,
                sd=found.get("sd") if name in quantiles else None,
                minimum=found.get("minimum") if name in quantiles else None,
                maximum=found.get("maximum") if name in quantiles else None,
                quantiles=quantiles.get(name, ()),
                shares=shares,
            )
        )
    return Profiled(rows, tuple(profiles))


def share_name(value: Any) -> str:
    """A value as reports and comparisons name it: booleans as JSON writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(table: Any, spec: ModelSpec, name: str) -> bool:
    if not table[name].type().is_numeric():
        return False
    if name == spec.label.name:
        return spec.task is Task.REGRESSION
    return any(f.name == name and f.type.numeric for f in spec.features)


def _quantiles(
    table: Any, names: list[str], rows: int, moments: dict[str, dict[str, Any]]
) -> dict[str, tuple[float, ...]]:
    found: dict[str, tuple[float, ...]] = {}
    for start in range(0, len(names), COLUMNS_A_SAMPLE):
        chunk = names[start : start + COLUMNS_A_SAMPLE]
        frame = statistics.sample(table, {f"v{i}": table[n] for i, n in enumerate(chunk)}, rows)
        for i, name in enumerate(chunk):
            values = frame[f"v{i}"].to_numpy(dtype=np.float64, na_value=np.nan)
            found[name] = _of(values[np.isfinite(values)], moments[name])
    return found


def _of(values: npt.NDArray[np.float64], moments: dict[str, Any]) -> tuple[float, ...]:
    if not len(values):
        return ()
    quantiles = np.quantile(values, np.linspace(0, 1, QUANTILES))
    # The ends are known exactly from all rows; the sample may have missed them.
    quantiles[0], quantiles[-1] = moments["minimum"], moments["maximum"]
    return tuple(float(q) for q in quantiles)


def feature_type(spec: ModelSpec, name: str) -> FeatureType | None:
    """The declared type of a feature; None for the label."""
    return next((f.type for f in spec.features if f.name == name), None)
