"""How a column of generated loans is held: arrays, and codes with their words for categories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Categorical:
    """Strings as positions in a short list; -1 is missing."""

    codes: npt.NDArray[np.int16]
    values: tuple[str, ...]

    def __len__(self) -> int:
        """Rows."""
        return len(self.codes)

    def strings(self) -> npt.NDArray[np.object_]:
        """The words, None where missing."""
        # The None at the end is what code -1 picks.
        return np.array([*self.values, None], dtype=object)[self.codes]

    def take(self, rows: slice) -> "Categorical":
        """Some of the rows."""
        return Categorical(self.codes[rows], self.values)

    def recode(self, values: tuple[str, ...]) -> "Categorical":
        """The same words as positions in another list, which must hold all of them."""
        table = np.array([*(values.index(value) for value in self.values), -1], dtype=np.int16)
        return Categorical(table[self.codes], values)


Column: TypeAlias = npt.NDArray[np.generic] | Categorical
"""Numbers with a missing value among them are float64 with NaN; times are datetime64[us], UTC."""


@dataclass(frozen=True)
class LoanBatch:
    """Consecutive loans, oldest first.

    `columns` is what a person would be given: `loan_id`, `issued_at`, the features, `defaulted`.
    `probability` is the truth that nobody is given: [rows], the chance of default that the label
    was drawn with, before any label noise and untouched by data faults.
    """

    first: int
    """Position of the first row in the whole set."""
    columns: Mapping[str, Column]
    probability: Floats

    def __len__(self) -> int:
        """Rows."""
        return len(self.probability)

    def take(self, start: int, stop: int) -> "LoanBatch":
        """Rows start to stop, counted from this batch's first."""
        rows = slice(start, stop)
        columns: dict[str, Column] = {
            name: column.take(rows) if isinstance(column, Categorical) else column[rows]
            for name, column in self.columns.items()
        }
        return LoanBatch(self.first + start, columns, self.probability[rows])

    def with_columns(self, columns: Mapping[str, Column]) -> "LoanBatch":
        """The same rows and truth with other columns."""
        return LoanBatch(self.first, columns, self.probability)


def concat(batches: Sequence[LoanBatch]) -> LoanBatch:
    """One batch of several that follow each other and have the same columns."""
    if len(batches) == 1:
        return batches[0]
    return LoanBatch(
        batches[0].first,
        {name: _join([batch.columns[name] for batch in batches]) for name in batches[0].columns},
        np.concatenate([batch.probability for batch in batches]),
    )


def _join(columns: list[Column]) -> Column:
    words = [column for column in columns if isinstance(column, Categorical)]
    if not words:
        return np.concatenate([c for c in columns if not isinstance(c, Categorical)])
    values = tuple(dict.fromkeys(value for column in words for value in column.values))
    return Categorical(np.concatenate([word.recode(values).codes for word in words]), values)
