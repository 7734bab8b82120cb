"""The arrays that a test remembers, and their trip through JSON."""

from dataclasses import fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Wholes = npt.NDArray[np.int64]


class Memory:
    """Base of states: frozen dataclasses whose fields are arrays of floats or whole numbers."""

    def to_json(self) -> dict[str, list[Any]]:
        """Lists, to the bit; infinities as text, which JSON lacks."""
        return {
            part.name: _listed(getattr(self, part.name))
            for part in fields(self)  # type: ignore[arg-type]
        }

    @classmethod
    def from_json(cls, stored: dict[str, list[Any]]) -> Self:
        """Read what `to_json` wrote."""
        return cls(**{name: _array(values) for name, values in stored.items()})


def _listed(values: npt.NDArray[Any]) -> list[Any]:
    kind = "i" if values.dtype.kind == "i" else "f"
    flat = [value if np.isfinite(value) else str(value) for value in values.ravel().tolist()]
    return [kind, list(values.shape), flat]


def _array(stored: list[Any]) -> npt.NDArray[Any]:
    kind, shape, flat = stored
    numbers = [float(value) if kind == "f" else value for value in flat]
    return np.array(numbers, np.int64 if kind == "i" else np.float64).reshape(shape)


def as_rows(values: npt.ArrayLike, streams: int) -> Floats:
    """Values as [rows, streams]; a flat list is the rows of a single stream.

    Raises:
        ValueError: a value is outside [0, 1], or there are too many or too few streams.
    """
    rows = np.asarray(values, np.float64)
    if rows.ndim == 1:
        rows = rows[:, None] if streams == 1 else rows[None, :]
    if rows.shape[1] != streams:
        raise ValueError(f"values must be of {streams} streams. Got {rows.shape[1]}.")
    if ((rows < 0) | (rows > 1)).any():
        bad = rows[(rows < 0) | (rows > 1)][0]
        raise ValueError(f"values must be between 0 and 1. Got {bad}.")
    return rows
