"""What is trained and judged on, and what comes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from heliotrope.ports.arrays import FloatMatrix, FloatVector
from heliotrope.spec import ModelSpec


class Scorer(Protocol):
    """A model that answers: float32 matrix in, scores out."""

    def score(self, features: FloatMatrix) -> FloatVector:
        """[rows] for binary and regression, [rows, classes] for multiclass."""
        ...


@dataclass(frozen=True)
class LabelledRows:
    """Rows as an estimator takes them."""

    features: FloatMatrix
    """[rows, features] in the spec's order: booleans 0 or 1, categories their position, missing
    values NaN."""
    labels: npt.NDArray[Any]
    """[rows] position in `spec.classes` (an integer dtype), or the value for regression."""
    row_ids: npt.NDArray[np.int64]
    """[rows] their `_row`, rising."""
    weights: FloatVector | None = None
    """[rows] how much each counts in the fit; None where all count the same."""

    def part(self, chosen: slice, weights: FloatVector | None = None) -> "LabelledRows":
        """Some of the rows, sharing memory, with other weights."""
        return LabelledRows(
            self.features[chosen], self.labels[chosen], self.row_ids[chosen], weights
        )


class TrainingData(Protocol):
    """One snapshot as a training needs it; a part is loaded only when it is asked for."""

    @property
    def rows(self) -> int:
        """Rows of the snapshot; `_row` runs from 0 to rows - 1."""
        ...

    def event_time(self) -> npt.NDArray[Any] | None:
        """[rows] datetime64 (UTC) in `_row` order, not falling; None without an event time."""
        ...

    def class_counts(self, rows: range) -> Mapping[str, int]:
        """Usable rows of each class of the spec within a range of `_row`; empty for regression."""
        ...

    def load(self, rows: range) -> LabelledRows:
        """The usable rows within a range of `_row`, in that order."""
        ...


@dataclass(frozen=True)
class JudgedRows:
    """Rows a model is judged on, or compared with, in the order of time."""

    labels: npt.NDArray[Any]
    """[rows] as `LabelledRows.labels`."""
    times: npt.NDArray[np.datetime64] | None
    """[rows] event times (UTC); None without an event time."""
    row_ids: npt.NDArray[np.int64]
    """[rows] their `_row`, rising."""
    features: FloatMatrix | None
    """[rows, features]; None where only labels were asked for."""


class EvaluationData(Protocol):
    """One snapshot as an evaluation needs it."""

    def holdout(self, rows: range) -> JudgedRows:
        """The usable rows within a range of `_row`, with their features."""
        ...

    def history(self, rows: range) -> JudgedRows:
        """The usable rows within a range of `_row`, without features."""
        ...

    def features_of(self, spec: ModelSpec, judged: JudgedRows) -> FloatMatrix:
        """The same rows in another spec's columns.

        Raises:
            DataFault: the snapshot lacks one of them.
        """
        ...

    def raw(self, judged: JudgedRows, most: int) -> Sequence[Mapping[str, Any]]:
        """The same rows as people would send them, at most so many, evenly spaced."""
        ...


class FittedModel(Protocol):
    """What a trainer answers with: a model that scores and can be written."""

    @property
    def estimator(self) -> str:
        """Dotted name."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it was built with."""
        ...

    @property
    def curve(self) -> Mapping[str, tuple[float, ...]]:
        """Loss by iteration."""
        ...

    @property
    def calibration(self) -> str | None:
        """How probabilities were calibrated; None where they were not."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of the fitting."""
        ...

    def score(self, features: FloatMatrix) -> FloatVector:
        """As `Scorer.score`, in the trained model's own precision."""
        ...

    def score_raw(self, rows: Sequence[Mapping[str, Any]]) -> FloatVector:
        """The same from raw rows, through the fitted pipeline's own preprocessing."""
        ...

    def save(self, folder: Path) -> None:
        """Write SKOPS_FILE and ONNX_FILE; the same model gives the same bytes."""
        ...


class Trainer(Protocol):
    """Fits a spec's estimator."""

    def fit(
        self, spec: ModelSpec, train: LabelledRows, calibration: LabelledRows | None
    ) -> FittedModel:
        """Fit on `train`; stop early and calibrate on `calibration`, later in time.

        Raises:
            UsageError: the spec's trainer or its parameters are wrong, or rows have weights and
                the estimator takes none.
            HeliotropeError: the estimator raised, or answers with NaN.
        """
        ...
