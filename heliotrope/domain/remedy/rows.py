"""Rows as a diagnosis takes them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatMatrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Score = Callable[[FloatMatrix], Floats]
"""The served model: [rows, features] to [rows], or [rows, classes]."""

MOST = 20_000
"""Rows looked at on either side: enough for shares of a few per cent, and seconds."""


@dataclass(frozen=True, eq=False)
class LabelFacts:
    """What is known of how labels came, beside their values."""

    predicted: int | None = None
    """Mature predictions; None where that is not known."""
    labelled: int | None = None
    """Of them with a label."""
    coverage_before: float | None = None
    """Share that is usually labelled."""
    delay_seconds: float | None = None
    """Median time from prediction to label."""
    delay_before: float | None = None
    """The same, usually."""
    repeated: int = 0
    """Predictions for which two labels that disagree were received."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows with their labels."""

    features: FloatMatrix
    """[rows, features] in the model's own coding, missing NaN."""
    labels: npt.NDArray[Any]
    """[rows] class code or value; NaN where there is none."""
    received: npt.NDArray[np.datetime64] | None = None
    """[rows] when each label came."""
    facts: LabelFacts = field(default_factory=LabelFacts)

    def __len__(self) -> int:
        """Rows."""
        return len(self.labels)

    def labelled(self, most: int = MOST) -> "Sample":
        """The rows with a label, at most so many, evenly spaced."""
        held = np.flatnonzero(~np.isnan(self.labels.astype(np.float64)))
        if len(held) > most:
            held = held[np.linspace(0, len(held) - 1, most).round().astype(np.intp)]
        received = None if self.received is None else self.received[held]
        return Sample(self.features[held], self.labels[held], received, self.facts)
