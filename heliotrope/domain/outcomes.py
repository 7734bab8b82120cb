"""Logged predictions with their labels, as judgements read them: columns of numpy arrays.

Times are `datetime64[us]`, UTC. Classes are places in the spec's `classes`; a label that is not
there is NaN. Every row is a prediction once, as `domain.truth` counts them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

FloatVector = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int32]
Times = npt.NDArray[np.datetime64]
Texts = npt.NDArray[np.object_]
Mask = npt.NDArray[np.bool_]
_Columns = TypeVar("_Columns", bound="Outcomes | PairedOutcomes")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Predictions in order of `predicted_at`, then `prediction_id`."""

    prediction_id: Texts
    version: Texts
    role: Texts
    predicted_at: Times
    prediction: Places
    """[rows] place of the predicted class, -1 where the log names none; 0 for regression."""
    score: FloatVector
    """[rows] the positive class's probability (binary), the predicted class's (multiclass), the
    value (regression); NaN where it cannot be judged, and then `label` is NaN too."""
    scores: Floats | None
    """[rows, classes] of every class (multiclass only)."""
    label: FloatVector
    """[rows] place of the true class, or the number; NaN where there is no label."""
    label_received_at: Times
    """[rows] NaT where there is no label."""
    slices: Mapping[str, Places]
    """[rows] slice codes by feature, for the spec's slices; see `TruthPlan.axes`."""

    def __len__(self) -> int:
        return len(self.prediction_id)

    @property
    def labelled(self) -> Mask:
        """[rows] whether there is a label."""
        return np.asarray(~np.isnan(self.label))

    def where(self, rows: Mask | npt.NDArray[np.int64]) -> Self:
        """Some of the rows, by mask or by place."""
        return _taken(self, rows)


@dataclass(frozen=True, eq=False)
class FeatureWindow:
    """Predictions with their features, all of a window or an even sample of it."""

    prediction_id: Texts
    version: Texts
    role: Texts
    predicted_at: Times
    prediction: Places
    score: FloatVector
    label: FloatVector
    label_received_at: Times
    features: Any
    """`pyarrow.Table` with a column a feature asked for, named as in the spec, typed as logged
    (float32, int64, string, bool), null where missing. A feature that was never logged in the
    spec's type is all null."""
    total_rows: int
    """Rows of the window; more than `len` where it is a sample."""

    def __len__(self) -> int:
        return len(self.prediction_id)

    @property
    def sampled(self) -> bool:
        """Whether rows were left out."""
        return len(self) < self.total_rows

    @property
    def labelled(self) -> Mask:
        """[rows] whether there is a label."""
        return np.asarray(~np.isnan(self.label))


@dataclass(frozen=True, eq=False)
class PairedOutcomes:
    """Requests that two versions answered, in order of the champion's answer, then id."""

    prediction_id: Texts
    predicted_at: Times
    """When the champion answered."""
    champion_prediction: Places
    candidate_prediction: Places
    champion_score: FloatVector
    candidate_score: FloatVector
    champion_scores: Floats | None
    """[rows, classes] (multiclass only)."""
    candidate_scores: Floats | None
    candidate_role: Texts
    """`shadow` where the log was replayed."""
    label: FloatVector
    """NaN where there is none, and where either score cannot be judged."""
    label_received_at: Times

    def __len__(self) -> int:
        return len(self.prediction_id)

    @property
    def labelled(self) -> Mask:
        """[rows] whether there is a label."""
        return np.asarray(~np.isnan(self.label))

    def where(self, rows: Mask | npt.NDArray[np.int64]) -> Self:
        """Some of the rows, by mask or by place."""
        return _taken(self, rows)


def _taken(columns: _Columns, rows: Any) -> _Columns:
    kept: dict[str, Any] = {}
    for part in fields(columns):
        value = getattr(columns, part.name)
        if isinstance(value, np.ndarray):
            kept[part.name] = value[rows]
        elif isinstance(value, Mapping):
            kept[part.name] = {name: codes[rows] for name, codes in value.items()}
    return replace(columns, **kept)
