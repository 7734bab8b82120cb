"""What is kept of the rows a champion learnt from: enough to score any later window against."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from pydantic import Field

from heliotrope.domain.document import Document
from heliotrope.domain.drift.window import Column, DriftWindow, Floats, Unreadable, Words
from heliotrope.spec import Feature, FeatureType

POINTS = 1000
"""Means of so many equal parts of a number's ordered values: the Wasserstein distance of two such
sketches is within .001 standard deviations of the distance of the rows."""
FEW_VALUES = 5
"""A number with at most so many different values is compared as a category (as Evidently does)."""
COUNTED = 64
"""Values of a number that are counted one by one, where there are no more."""
FLOOR = 0.001
"""Least standard deviation that an effect is measured in (as Evidently does)."""


class ColumnSketch(Document):
    """One column of the reference."""

    name: str
    rows: int
    nulls: int = 0
    infinite: int = 0
    points: tuple[float, ...] = ()
    """Means of equal parts of the finite values in order, lowest first; empty for words."""
    counts: dict[str, int] = Field(default_factory=dict)
    """Rows of each word, or of each number where there are few."""
    mean: float | None = None
    sd: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    commonest: float = 0.0
    """Share of the commonest value among those there are."""

    @property
    def held(self) -> int:
        """Rows with a value that can be compared."""
        return self.rows - self.nulls - self.infinite

    @property
    def as_words(self) -> bool:
        """Whether shares of values are compared, and not their sizes."""
        return not self.points or 0 < len(self.counts) <= FEW_VALUES

    @property
    def spread(self) -> float:
        """What an effect is measured in."""
        return max(self.sd or 0.0, FLOOR)


class ReferenceSketch(Document):
    """The reference of one model version."""

    model: str
    version: str
    snapshot_hash: str
    rows: int
    columns: tuple[ColumnSketch, ...]
    """In the order of the spec's features."""
    score: ColumnSketch | None = None
    """Of the version's answers to rows it was not fitted on."""
    importances: dict[str, float] = Field(default_factory=dict)
    """Share of each feature; none where they are not known, and all weigh alike."""

    def column(self, name: str) -> ColumnSketch | None:
        """The sketch of a feature."""
        return next((column for column in self.columns if column.name == name), None)

    def weight(self, name: str) -> float:
        """Share of a feature in the model's reliance; all of a report's add up to 1."""
        total = sum(self.importances.get(c.name, 0.0) for c in self.columns)
        if total <= 0:
            return 1 / max(1, len(self.columns))
        return self.importances.get(name, 0.0) / total


def part_means(ordered: Floats, parts: int) -> npt.NDArray[np.float64]:
    """Means of equal parts of ordered values, a value on an edge counted in both by its share.

    >>> part_means(np.array([1.0, 2.0, 3.0, 4.0]), 2)
    array([1.5, 3.5])
    """
    total = np.empty(len(ordered) + 1)
    total[0] = 0.0
    np.cumsum(ordered, dtype=np.float64, out=total[1:])
    place = np.linspace(0, len(ordered), parts + 1)
    whole = np.minimum(place.astype(np.intp), len(ordered) - 1)
    at = total[whole] + (place - whole) * ordered[whole]
    means: npt.NDArray[np.float64] = np.diff(at) * (parts / len(ordered))
    return means


def sketch_column(name: str, column: Column) -> ColumnSketch:
    """The sketch of one column.

    Raises:
        ValueError: it is unreadable, which a snapshot's column never is.
    """
    if isinstance(column, Unreadable):
        raise ValueError(f"{name} must {column.problem}.")
    if isinstance(column, Words):
        counts = column.counts()
        held = sum(counts.values())
        top = max(counts.values(), default=0) / held if held else 0.0
        nulls = len(column) - held
        return ColumnSketch(name=name, rows=len(column), nulls=nulls, counts=counts, commonest=top)
    missing = int(np.isnan(column).sum())
    ordered = np.sort(column[np.isfinite(column)])
    held = len(ordered)
    if not held:
        return ColumnSketch(
            name=name, rows=len(column), nulls=missing, infinite=len(column) - missing
        )
    exact = ordered.astype(np.float64, copy=False)
    counts, top = _few(ordered)
    return ColumnSketch(
        name=name,
        rows=len(column),
        nulls=missing,
        infinite=len(column) - missing - held,
        points=tuple(float(f"{p:.8g}") for p in part_means(ordered, min(POINTS, held))),
        counts=counts,
        mean=float(exact.mean()),
        sd=float(exact.std()),
        minimum=float(ordered[0]),
        maximum=float(ordered[-1]),
        commonest=top,
    )


def _few(ordered: Floats) -> tuple[dict[str, int], float]:
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(ordered)])
    top = float(lengths.max()) / len(ordered)
    if len(starts) > COUNTED:
        return {}, top
    return {value_name(v): int(n) for v, n in zip(ordered[starts], lengths, strict=True)}, top


def value_name(value: float) -> str:
    """A number as the key of a count."""
    return f"{float(value):.9g}"


def sketch_reference(
    model: str,
    version: str,
    snapshot_hash: str,
    features: tuple[Feature, ...],
    read: Callable[[Feature], Column],
    *,
    score: Floats | None = None,
    importances: Mapping[str, float] | None = None,
) -> ReferenceSketch:
    """A reference, one column in memory at a time.

    Args:
        model: its name.
        version: of the model.
        snapshot_hash: of the rows.
        features: of the spec.
        read: gives all rows of one feature.
        score: the version's answers to rows it was not fitted on.
        importances: by feature.
    """
    columns = tuple(sketch_column(feature.name, read(feature)) for feature in features)
    return ReferenceSketch(
        model=model,
        version=version,
        snapshot_hash=snapshot_hash,
        rows=max((column.rows for column in columns), default=0),
        columns=columns,
        score=None if score is None else sketch_column("score", score),
        importances=dict(importances or {}),
    )


def reference_of_window(
    features: tuple[Feature, ...],
    window: DriftWindow,
    importances: Mapping[str, float] | None = None,
) -> ReferenceSketch:
    """A reference of rows that are all in memory."""
    there = tuple(f for f in features if f.name in window.columns)
    return sketch_reference(
        "", "", "", there, lambda f: window.columns[f.name],
        score=window.score, importances=importances,
    )  # fmt: skip


def is_words(feature: Feature) -> bool:
    """Whether a feature is a category or a boolean."""
    return feature.type in (FeatureType.CATEGORY, FeatureType.BOOLEAN)
