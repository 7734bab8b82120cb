"""A cell: the added-up statistics of one window, version, role and slice."""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from heliotrope.domain.truth.statistics import SUMS

IntVector = npt.NDArray[np.int64]
IntMatrix = npt.NDArray[np.int64]

_BIN_BITS, _CALLED_BITS, _OUTCOME_BITS = 20, 16, 16
_OUTCOME_OFFSET = 2


class CellKey(NamedTuple):
    """Which cell: see `TruthPlan.window_start` and `slice_name` for what the numbers mean."""

    window: int
    version: str
    role: str
    axis: int
    code: int


@dataclass(frozen=True, eq=False)
class Cell:
    """Sums by series, outcome, called class and bin. Cells are added; an empty one is nothing."""

    keys: IntVector
    """[entries] packed, rising, each once."""
    sums: IntMatrix
    """[entries, SUMS]; never a row of zeros."""

    @classmethod
    def empty(cls) -> Self:
        """A cell of no rows."""
        return cls(np.empty(0, np.int64), np.empty((0, len(SUMS)), np.int64))

    @classmethod
    def of(
        cls, series: IntVector, outcome: IntVector, called: IntVector, place: IntVector,
        sums: IntMatrix,
    ) -> Self:  # fmt: skip
        """A cell from entries in any order, several of one key added up."""
        packed = (series << _OUTCOME_BITS) | (outcome + _OUTCOME_OFFSET)
        packed = (packed << _CALLED_BITS) | (called & ((1 << _CALLED_BITS) - 1))
        return cls._added((packed << _BIN_BITS) | place, sums)

    @classmethod
    def _added(cls, packed: IntVector, sums: IntMatrix) -> Self:
        if len(packed) == 0:
            return cls.empty()
        order = np.argsort(packed, kind="stable")
        ordered = packed[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        total = np.add.reduceat(sums[order], starts, axis=0)
        kept = total.any(axis=1)
        return cls(ordered[starts][kept], total[kept])

    def __add__(self, other: "Cell") -> "Cell":
        """The statistics of the rows of both."""
        return Cell._added(
            np.concatenate([self.keys, other.keys]), np.concatenate([self.sums, other.sums])
        )

    def __eq__(self, other: object) -> bool:
        """Whether all statistics are the same, to the bit."""
        if not isinstance(other, Cell):
            return NotImplemented
        return np.array_equal(self.keys, other.keys) and np.array_equal(self.sums, other.sums)

    __hash__ = None  # type: ignore[assignment]

    @property
    def blank(self) -> bool:
        """Whether no row is in it."""
        return len(self.keys) == 0

    def part(self, series: int) -> "Part":
        """The entries of one series."""
        shift = _BIN_BITS + _CALLED_BITS + _OUTCOME_BITS
        low, high = np.searchsorted(self.keys, [series << shift, (series + 1) << shift])
        keys = self.keys[low:high]
        outcome = (keys >> (_BIN_BITS + _CALLED_BITS)) & ((1 << _OUTCOME_BITS) - 1)
        called = (keys >> _BIN_BITS) & ((1 << _CALLED_BITS) - 1)
        return Part(
            outcome - _OUTCOME_OFFSET, called, keys & ((1 << _BIN_BITS) - 1), self.sums[low:high]
        )

    def to_bytes(self) -> bytes:
        """Compressed; columns of differences, which compress best."""
        stacked = np.concatenate([np.diff(self.keys, prepend=0), self.sums.T.ravel()])
        return zlib.compress(stacked.astype("<i8").tobytes(), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote."""
        flat = np.frombuffer(zlib.decompress(data), "<i8").astype(np.int64, copy=False)
        entries = len(flat) // (len(SUMS) + 1)
        sums = np.ascontiguousarray(flat[entries:].reshape(len(SUMS), entries).T)
        return cls(np.cumsum(flat[:entries]), sums)


@dataclass(frozen=True)
class Part:
    """One series of a cell, entry by entry."""

    outcome: IntVector
    called: IntVector
    bin: IntVector
    sums: IntMatrix

    @property
    def n(self) -> IntVector:
        """Rows of each entry."""
        return self.sums[:, 0]

    def where(self, mask: npt.NDArray[np.bool_]) -> "Part":
        """Some of the entries."""
        return Part(self.outcome[mask], self.called[mask], self.bin[mask], self.sums[mask])

    @property
    def labelled(self) -> "Part":
        """The entries with a label."""
        return self.where(self.outcome >= 0)


def split_rows(columns: Mapping[str, Any]) -> Iterator[tuple[CellKey, Cell]]:
    """The cells in rows of `statistics.cells`, given as columns of numpy arrays."""
    rows = len(columns["n"])
    if rows == 0:
        return
    versions, version = np.unique(columns["version"].astype(str), return_inverse=True)
    roles, role = np.unique(columns["role"].astype(str), return_inverse=True)
    numbers = {name: np.asarray(columns[name], np.int64) for name in _NUMBERS}
    heads = np.stack(
        [numbers["window"], version, role, numbers["axis"], numbers["code"]], axis=1
    ).astype(np.int64)
    order = np.lexsort(heads.T[::-1])
    ordered = heads[order]
    changed = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    edges = np.append(np.flatnonzero(changed), rows)
    for low, high in pairwise(edges):
        chosen = order[low:high]
        window, v, r, axis, code = (int(number) for number in ordered[low])
        sums = np.stack([numbers[name][chosen] for name in SUMS], axis=1)
        series, outcome, called, place = (numbers[name][chosen] for name in _ENTRY)
        yield (
            CellKey(window, str(versions[v]), str(roles[r]), axis, code),
            Cell.of(series, outcome, called, place, sums),
        )


_ENTRY = ("series", "outcome", "called", "bin")
_NUMBERS = ("window", "axis", "code", "series", "outcome", "called", "bin", *SUMS)
